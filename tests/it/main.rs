//! Drey against real Flink: each test starts its own JobManager and TaskManager on loopback ports and ends them.
//!
//! `cargo test --features kill-points --test it`. What is needed is made once by `tests/setup.sh`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "modules of a test binary")]
#![allow(
    dead_code,
    reason = "what a scenario needs is used when that scenario is there"
)]

#[path = "../support/mounts.rs"]
mod mounts;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/prometheus.rs"]
mod prometheus;
#[path = "../support/servers.rs"]
mod servers;
mod support;

mod ahead;
mod alone;
#[cfg(feature = "test-matrix")]
mod beam;
mod changes;
mod commands;
mod ends;
mod failures;
mod follow;
mod graph;
mod health;
mod hold;
mod image;
mod in_place;
mod job;
mod keep;
mod kills;
#[cfg(feature = "test-matrix")]
mod matrix;
mod metrics;
mod monitoring;
mod nonce;
mod rescale;
mod rest;
mod restore;
mod session;
mod session_jobs;
mod settings;
mod shutdown;
mod split;
mod status_page;
mod storage_s3;
mod watch;
