//! What the scenarios are told in: a job in pods, what happens to it, and what is to be seen afterwards.

mod dump;
#[path = "../it/support/installation.rs"]
mod installation;
mod job;
mod manifests;
mod namespace;
mod node;
mod rest;
#[path = "../it/support/wait.rs"]
mod wait;

pub use installation::{ROOT, Version};
pub use job::{JOB_MANAGER, Job, Mode, Run, TASK_MANAGER};
pub use manifests::{flink_container, pod_spec};
pub use namespace::Namespace;
pub use node::Node;
pub use wait::{eventually, wait_until};
