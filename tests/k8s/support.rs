//! What the scenarios are told in: a job in pods, what happens to it, and what is to be seen afterwards.

mod dump;
mod files;
#[path = "../it/support/installation.rs"]
mod installation;
mod job;
mod manifests;
mod namespace;
mod node;
mod rest;
mod run;
mod submit;
mod wait;
mod webhook;

pub use installation::{ROOT, Version};
pub use job::{JOB_MANAGER, Job, Mode, TASK_MANAGER};
pub use manifests::{flink_container, load, parse, pod_spec, use_images, with_ordinary_sidecar};
pub use node::{output, output_of};
pub use rest::Rest;
pub use run::{Run, plain_path, status};
pub use wait::{eventually, wait_until};
pub use webhook::Webhook;
