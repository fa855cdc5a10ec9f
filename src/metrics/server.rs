//! The listener that Prometheus asks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY,
    WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::coming::AGGREGATED;
use super::negotiate;
use super::page::Format;
use super::patience::{Asked, Patience};
use super::proxy::Proxy;
use super::web_config::Web;
use crate::accept::{self, Limits};
use crate::telemetry::one_line;

/// How many connections there are at most.
const CONNECTIONS: usize = 128;

/// How long a request's head, or a handshake, may take.
const HEAD: Duration = Duration::from_secs(10);

/// How long an answer may take from its first byte to its last.
const ANSWER: Duration = Duration::from_secs(60);

/// How long one connection may last. Prometheus makes a new one then.
const CONNECTION: Duration = Duration::from_secs(3600);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Everything that answers.
#[derive(Debug)]
pub struct Server {
    proxy: Proxy,
    web: Web,
}

impl Server {
    /// A server of `proxy` for those whom `web` lets in.
    #[must_use]
    pub fn new(proxy: Proxy, web: Web) -> Self {
        Self { proxy, web }
    }

    /// Answers at `listener` for ever.
    pub async fn serve(self, listener: TcpListener) {
        let server = Arc::new(self);
        let limits = Limits {
            connections: CONNECTIONS,
            lifetime: CONNECTION,
        };
        let serve = |stream, peer| Arc::clone(&server).connection(stream, peer);
        accept::connections(listener, limits, serve).await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.web.tls() {
            Ok(None) => self.http(stream).await,
            Ok(Some(tls)) => match timeout(HEAD, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.http(stream).await,
                Ok(Err(error)) => {
                    let error: &std::io::Error = &error;
                    debug!(%peer, error = one_line(error, 200), "TLS handshake failed");
                }
                Err(_) => debug!(%peer, "TLS handshake took too long"),
            },
            Err(error) => warn!(error = one_line(&error, 300), "No connection is taken"),
        }
    }

    async fn http(self: &Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let asked = Asked::default();
        let stream = Patience::new(stream, ANSWER, asked.clone());
        let answer = |request: Request<Incoming>| {
            asked.now();
            let server = Arc::clone(self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        if let Err(error) = connection.await {
            debug!(error = one_line(&error, 200), "Connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let arrived = Instant::now();
        let headers = request.headers();
        if !self.web.admits(headers).await {
            let mut response = short(StatusCode::UNAUTHORIZED, "Unauthorized\n");
            let basic = HeaderValue::from_static("Basic");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
            return response;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = short(StatusCode::METHOD_NOT_ALLOWED, "Use GET.\n");
            let methods = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, methods);
            return response;
        }
        if headers.contains_key(AGGREGATED) && self.proxy.aggregates() {
            return short(
                StatusCode::LOOP_DETECTED,
                "Who asks may be part of the answer.\n",
            );
        }
        match request.uri().path() {
            // Flink's own reporter answers everywhere.
            "/" | "/metrics" => self.metrics(headers, arrived).await,
            _ => short(StatusCode::NOT_FOUND, "There is only /metrics.\n"),
        }
    }

    async fn metrics(&self, headers: &HeaderMap, arrived: Instant) -> Response<Body> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let format = negotiate::format(header(ACCEPT.as_str()));
        let time = negotiate::time(header("x-prometheus-scrape-timeout-seconds"));
        let answer = self.proxy.scrape(format, arrived + time).await;
        let (body, encoding) = if negotiate::gzip(header(ACCEPT_ENCODING.as_str())) {
            (Full::new(answer.gzip()).boxed_unsync(), Some("gzip"))
        } else {
            let pieces = answer.plain().map(|piece| Ok(Frame::data(piece)));
            let stream = futures_util::stream::iter(pieces);
            (StreamBody::new(stream).boxed_unsync(), None)
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(format)));
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
}

fn short(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
