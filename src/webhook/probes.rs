//! `/healthz`, `/readyz` and `/metrics`, in plain text on a port of their own.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use super::Shared;
use super::admission::text;
use super::server::Handler;

/// What Prometheus' text format is called.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
pub(super) struct Probes {
    shared: Arc<Shared>,
}

impl Probes {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.shared.readiness() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        self.shared.refresh_metrics();
        match self.shared.metrics.text() {
            Ok(body) => {
                let mut response = Response::new(Full::from(body));
                let kind = hyper::header::HeaderValue::from_static(PROMETHEUS);
                response.headers_mut().insert("content-type", kind);
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }
}

impl Handler for Probes {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET this\n");
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz and /metrics\n",
            ),
        }
    }

    /// A probe is asked once.
    fn ending(&self) -> bool {
        true
    }
}
