//! `drey webhook` against a real etcd and kube-apiserver that send it their admission reviews, with the rights of the chart and no others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test binary")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "webhook/world.rs"]
mod world;

#[path = "webhook/admissions.rs"]
mod admissions;
