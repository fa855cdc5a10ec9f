//! The metrics as Prometheus gets them: over real sockets, from Flinks of all kinds that are none.
#![allow(unreachable_pub, reason = "modules of a test binary")]

#[path = "metrics/aggregate.rs"]
mod aggregate;
#[path = "metrics/hostile.rs"]
mod hostile;
#[path = "metrics/sharing.rs"]
mod sharing;
#[path = "metrics/support.rs"]
mod support;
#[path = "metrics/web.rs"]
mod web;
