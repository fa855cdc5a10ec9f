//! A Flink cluster of one's own for each test, and the `drey` that supervises it.

mod api_server;
mod cluster;

mod installation;
mod processes;
mod rest;
mod start;
mod wait;

pub use crate::ports::free_port;
pub use api_server::ApiServer;
pub use cluster::Cluster;
#[cfg(feature = "test-matrix")]
pub use cluster::JOB_MANAGER;
#[cfg(feature = "test-matrix")]
pub use installation::pinned;
pub use installation::{ROOT, Version};
pub use processes::{Process, run_mark, signal};
pub use rest::{Rest, plain_path};
pub use wait::{eventually, wait_until};
