//! `drey webhook` against a real etcd and kube-apiserver that send it their admission reviews, with the rights of the chart and no others;
//! and `drey inject`, which does the same to files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test binary")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "webhook/client.rs"]
mod client;
#[path = "chart/helm.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod helm;
#[path = "support/ports.rs"]
mod ports;
#[path = "webhook/world.rs"]
mod world;

#[path = "webhook/admissions.rs"]
mod admissions;
#[path = "webhook/busy.rs"]
mod busy;
#[cfg(feature = "test-matrix")]
#[path = "webhook/cert_manager.rs"]
mod cert_manager;
#[path = "webhook/certificates.rs"]
mod certificates;
#[path = "webhook/hostile.rs"]
mod hostile;
#[path = "webhook/installed.rs"]
mod installed;
#[path = "webhook/offline.rs"]
mod offline;
#[path = "webhook/serving.rs"]
mod serving;
