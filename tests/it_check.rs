//! `drey check` as a process, against a real etcd and kube-apiserver.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test binary")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/servers.rs"]
mod servers;
#[path = "check/world.rs"]
mod world;

#[path = "check/before.rs"]
mod before;
#[path = "check/installation.rs"]
mod installation;
#[path = "check/jobs.rs"]
mod jobs;
#[path = "check/served.rs"]
mod served;
#[path = "check/waiting.rs"]
mod waiting;
