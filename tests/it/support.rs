//! A Flink cluster of one's own for each test, and the `drey` that supervises it.

mod cluster;

mod installation;
mod processes;
mod rest;
mod start;
mod wait;

pub use cluster::Cluster;
pub use installation::Version;
pub use processes::Process;
pub use rest::Rest;
pub use start::Start;
pub use wait::{LIMIT, eventually, wait_until};
