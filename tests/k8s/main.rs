//! Drey in real pods: each test has a namespace of one Kubernetes node that all share, with what stands in `deploy/`.
//!
//! `make test-k8s`, or `make test-k8s SCENARIO=name` for one, which leaves node and namespace up for a look:
//! `tests/cluster/node.sh exec target/k8s kubectl get pods -A`.

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

#[path = "../support/prometheus.rs"]
mod prometheus;
mod support;

mod away;
mod baseline;
mod batch;
mod changes;
mod crashes;
mod edits;
mod ends;
mod finished;
mod high_availability;
mod injection;
mod job;
mod lost_node;
mod metrics;
mod moves;
mod object_store;
mod pipelines;
mod plain;
mod rights;
mod rollouts;
mod session;
