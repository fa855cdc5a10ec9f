//! The Kubernetes adapters against a real etcd and kube-apiserver, with the rights of the README's Role and no others.

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
#[path = "kubernetes/world.rs"]
mod world;

#[path = "kubernetes/by_hand.rs"]
mod by_hand;
#[path = "kubernetes/events.rs"]
mod events;
#[path = "kubernetes/job.rs"]
mod job;
#[path = "kubernetes/keep.rs"]
mod keep;
#[path = "kubernetes/lock.rs"]
mod lock;
#[path = "kubernetes/map.rs"]
mod map;
#[path = "kubernetes/outage.rs"]
mod outage;
#[path = "kubernetes/owners.rs"]
mod owners;
#[path = "kubernetes/starts.rs"]
mod starts;
