//! What the scenarios are told in: a job in pods, what happens to it, and what is to be seen afterwards.

mod dump;
#[path = "../it/support/installation.rs"]
mod installation;
mod job;
mod manifests;
mod namespace;
mod node;
mod rest;
mod wait;

pub use installation::Version;
pub use job::{JOB_MANAGER, Job, Mode, Run, TASK_MANAGER, plain_path, status};
pub use manifests::{flink_container, pod_spec};
pub use rest::Rest;
pub use wait::{eventually, wait_until};
