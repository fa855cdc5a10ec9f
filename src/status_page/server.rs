//! The listener that a browser asks.
//!
//! Only GET and HEAD are answered, and only to those who call it by a name of this machine: another page in the same browser
//! could point a name of its own here (DNS rebinding), and read what it gets.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::debug;

use super::model::Page;
use crate::accept::{self, Limits};
use crate::control::{self, Call, Reply};
use crate::supervisor::random;
use crate::telemetry::one_line;

/// The page, with places for its data and for what allows its own script and style to run.
const PAGE: &str = include_str!("page.html");

/// How many connections there are at most.
const CONNECTIONS: usize = 16;

/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);

/// How long one connection may last, however slowly it reads.
const CONNECTION: Duration = Duration::from_secs(60);

/// How long the supervisor may take to answer.
const SUPERVISOR: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// Answers with what the supervisor at one socket says.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
}

impl Server {
    /// A server for the supervisor at `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Answers at `listener` for ever.
    pub async fn serve(self, listener: TcpListener) {
        let server = Arc::new(self);
        let limits = Limits {
            connections: CONNECTIONS,
            lifetime: CONNECTION,
        };
        let serve = |stream, _| Arc::clone(&server).connection(stream);
        accept::connections(listener, limits, serve).await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let answer = |request: Request<Incoming>| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(&request).await) }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        if let Err(error) = connection.await {
            debug!(
                error = one_line(&error, 200),
                "Connection to the status page ended"
            );
        }
    }

    /// The answer to one request.
    pub async fn answer<B>(&self, request: &Request<B>) -> Answer {
        if let Some(refused) = refusal(request) {
            return refused;
        }
        match request.uri().path() {
            "/" => page(&self.data().await),
            "/data.json" => answer(
                StatusCode::OK,
                "application/json",
                self.data().await.to_string(),
            ),
            _ => short(StatusCode::NOT_FOUND, "There is only / and /data.json.\n"),
        }
    }

    /// What the supervisor says now; when it does not answer, why.
    async fn data(&self) -> Value {
        let call = control::call(&self.socket, &Call::Story);
        let error = match timeout(SUPERVISOR, call).await {
            Ok(Ok(Reply::Story(story))) => return json!(Page::from(*story)),
            Ok(Ok(Reply::Failed { error, .. })) => error,
            Ok(Ok(_)) => "the supervisor is of another version".to_owned(),
            Ok(Err(error)) => format!("no supervisor answers: {}", one_line(&error, 200)),
            Err(_) => "the supervisor is busy".to_owned(),
        };
        json!({ "error": error })
    }
}

/// The answer to a request that is none for this page.
fn refusal<B>(request: &Request<B>) -> Option<Answer> {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_this_machine) {
        let text = "Ask for this page as localhost, 127.0.0.1 or [::1].\n";
        return Some(short(StatusCode::MISDIRECTED_REQUEST, text));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = short(StatusCode::METHOD_NOT_ALLOWED, "Use GET.\n");
        let methods = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, methods);
        return Some(refused);
    }
    None
}

/// Whether a browser that sends this Host header asked for this machine by a name that nobody else can have. The port is
/// that of `kubectl port-forward`, whatever it is.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "[::1]"].contains(&name) || name.eq_ignore_ascii_case("localhost")
}

/// The page with its data. Nothing in these can end the element that they are in.
fn page(data: &Value) -> Answer {
    let nonce = STANDARD.encode(random::<16>());
    let data = data.to_string().replace('<', "\\u003c");
    // What is put in last cannot be taken for a place.
    let text = PAGE.replace("NONCE", &nonce).replacen("\"DATA\"", &data, 1);
    let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", text);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

fn short(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.to_owned())
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn asked(method: Method, host: Option<&str>, path: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request.body(()).expect("a request");
        let nobody = tempfile::tempdir().expect("a directory");
        Server::new(nobody.path().join("sock"))
            .answer(&request)
            .await
    }

    #[tokio::test]
    async fn only_reading_is_answered_and_only_by_names_of_this_machine() {
        for (method, host, path, status) in [
            (Method::GET, Some("127.0.0.1:9248"), "/", 200),
            (Method::HEAD, Some("localhost"), "/", 200),
            (Method::GET, Some("LOCALHOST:1"), "/data.json", 200),
            (Method::GET, Some("[::1]:9248"), "/", 200),
            (Method::GET, Some("[::1]"), "/", 200),
            (Method::GET, Some("localhost"), "/pointer", 404),
            (Method::POST, Some("localhost"), "/", 405),
            (Method::DELETE, Some("localhost"), "/data.json", 405),
            (Method::GET, None, "/", 421),
            (Method::GET, Some("evil.example"), "/", 421),
            (
                Method::GET,
                Some("localhost.evil.example:9248"),
                "/data.json",
                421,
            ),
            (Method::GET, Some("127.0.0.1.evil.example"), "/", 421),
            (Method::GET, Some("0.0.0.0:9248"), "/", 421),
            (Method::GET, Some(""), "/", 421),
        ] {
            let answer = asked(method.clone(), host, path).await;
            assert_eq!(answer.status(), status, "{method} {path} of {host:?}");
            assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        }
    }

    #[tokio::test]
    async fn the_page_runs_its_own_script_alone_and_takes_nothing_from_elsewhere() {
        let first = asked(Method::GET, Some("localhost"), "/").await;
        let policy = first.headers()[CONTENT_SECURITY_POLICY].clone();
        let policy = policy.to_str().expect("text");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'nonce-"),
            "{policy}"
        );
        let nonce = policy
            .split('\'')
            .nth(3)
            .and_then(|word| word.strip_prefix("nonce-"));
        let nonce = nonce.expect("a nonce");
        let body = first
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        assert_eq!(
            text.matches(&format!("nonce=\"{nonce}\"")).count(),
            3,
            "{text}"
        );
        assert!(text.contains("no supervisor answers"), "{text}");
        // The namespace is a name, which nobody fetches.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["src=", "href=", "http://", "https://", "@import", "url("] {
            assert!(!text.contains(foreign), "{foreign} in {text}");
        }
        let second = asked(Method::GET, Some("localhost"), "/").await;
        assert_ne!(second.headers()[CONTENT_SECURITY_POLICY], policy);
    }

    #[tokio::test]
    async fn data_cannot_end_its_element() {
        let answer = page(&json!({"error": "</script><script>alert(1)</script>"}));
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        assert!(!text.contains("alert(1)</script>"), "{text}");
        assert!(
            text.contains("\\u003c/script>\\u003cscript>alert(1)"),
            "{text}"
        );
    }
}
