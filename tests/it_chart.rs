//! The Helm chart: what it renders, what it refuses, and that a real API server does with its conditions what they say. And the
//! pipelines beside it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test binary")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "chart/helm.rs"]
mod helm;
#[path = "support/ports.rs"]
mod ports;

#[path = "chart/conditions.rs"]
mod conditions;
#[path = "chart/install.rs"]
mod install;
#[path = "chart/monitoring.rs"]
mod monitoring;
#[path = "chart/pipelines.rs"]
mod pipelines;
#[path = "chart/render.rs"]
mod render;
#[path = "chart/values.rs"]
mod values;
