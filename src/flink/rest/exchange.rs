//! One HTTP request and its whole answer over a kept-alive connection to Flink: bounded in time and size, TLS and
//! credentials included.
use super::error::RestError;
use super::{Auth, RestSettings};
use crate::flink::tls;
use crate::metrics::own;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::http::request;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::Url;

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// A body that is too long to be held in memory.
pub(super) struct Long {
    pub(super) content_type: String,
    /// Its length, where it is known beforehand.
    pub(super) length: Option<u64>,
    pub(super) body: Body,
}

/// A method, a path below the URL's own, and a JSON body.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Bytes::new(),
        }
    }

    /// How the call is named in errors.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Where a redirect points to.
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

/// A connection with the credentials that it uses.
struct Connection {
    sender: SendRequest<Body>,
    authorization: Option<HeaderValue>,
    reused: bool,
}

pub(super) struct Exchange {
    settings: RestSettings,
    host: String,
    port: u16,
    host_header: HeaderValue,
    server_name: Option<ServerName<'static>>,
    idle: Mutex<Option<Connection>>,
}

enum Outcome {
    Answered(Answer),
    /// A kept-alive connection turned out to be closed, and repeating the call cannot do anything twice.
    Stale,
}

impl Exchange {
    pub(super) fn new(settings: RestSettings) -> Result<Self, RestError> {
        let (host, port) = check_url(&settings.url)?;
        let refused = |source| RestError::Tls {
            request: settings.url.to_string(),
            source,
        };
        let server_name = if settings.url.scheme() == "https" {
            tls::client_config(&settings.tls).map_err(refused)?;
            let name = settings.server_name.as_deref().unwrap_or(&host);
            Some(tls::server_name(name).map_err(refused)?)
        } else {
            None
        };
        let authority = settings
            .url
            .port()
            .map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let host_header = HeaderValue::from_str(&authority)
            .map_err(|_| settings_error(&settings.url, "has no host name that HTTP can carry"))?;
        Ok(Self {
            settings,
            host,
            port,
            host_header,
            server_name,
            idle: Mutex::new(None),
        })
    }

    /// Sends the call and reads its whole answer. A call that takes longer than the timeout loses its connection.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, RestError> {
        let (timeout, asked) = (self.settings.timeout, Instant::now());
        let answer = tokio::time::timeout(timeout, self.call_untimed(call))
            .await
            .unwrap_or_else(|_| {
                let what = format!(
                    "no answer from {}:{} within {timeout:?}",
                    self.host, self.port
                );
                Err(RestError::Unreachable {
                    request: call.name(),
                    what,
                    source: None,
                })
            });
        own().requested(asked.elapsed(), answer.is_ok());
        answer
    }

    /// Sends a call with a long body over a connection of its own, without a limit in time. It is never sent twice.
    pub(super) async fn send_long(&self, call: &Call, long: Long) -> Result<Answer, RestError> {
        let connection = self.dial(call).await?;
        let mut head = self.head(call, connection.authorization.as_ref());
        head = head.header(CONTENT_TYPE, long.content_type);
        if let Some(length) = long.length {
            head = head.header(CONTENT_LENGTH, length);
        }
        let request = head.body(long.body).map_err(|_| self.odd_path())?;
        match self.send(connection, call, request).await? {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Stale => Err(closed_at_once(call)),
        }
    }

    /// Another exchange with the same server, with this limit for each call.
    pub(super) fn with_timeout(&self, timeout: Duration) -> Result<Self, RestError> {
        Self::new(RestSettings {
            timeout,
            ..self.settings.clone()
        })
    }

    async fn call_untimed(&self, call: &Call) -> Result<Answer, RestError> {
        if let Some(connection) = self.take_idle()
            && let Outcome::Answered(answer) = self.send_call(connection, call).await?
            && !(is_unauthorized(answer.status) && self.settings.auth.is_some())
        {
            return Ok(answer);
        }
        // A new connection reads the credentials again: they may have been renewed.
        let connection = self.dial(call).await?;
        match self.send_call(connection, call).await? {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Stale => Err(closed_at_once(call)),
        }
    }

    fn take_idle(&self) -> Option<Connection> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        idle.filter(|connection| !connection.sender.is_closed())
    }

    async fn send_call(&self, connection: Connection, call: &Call) -> Result<Outcome, RestError> {
        let request = self.request(call, connection.authorization.as_ref())?;
        self.send(connection, call, request).await
    }

    async fn send(
        &self,
        mut connection: Connection,
        call: &Call,
        request: Request<Body>,
    ) -> Result<Outcome, RestError> {
        let response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut failed) => {
                // The request comes back when not a byte of it was sent.
                let unsent = failed.take_message().is_some();
                let broken = !failed.error().is_parse();
                if connection.reused && broken && (unsent || call.method == Method::GET) {
                    return Ok(Outcome::Stale);
                }
                return Err(failure(call, failed.into_error()));
            }
        };
        let status = response.status();
        let location = response.headers().get(hyper::header::LOCATION);
        let location = location
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let limit = self.settings.max_body;
        let body = Limited::new(response.into_body(), limit).collect().await;
        let body = body
            .map_err(|error| body_failure(call, limit, error))?
            .to_bytes();
        if !is_unauthorized(status) {
            connection.reused = true;
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
        Ok(Outcome::Answered(Answer {
            status,
            location,
            body,
        }))
    }

    fn request(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Request<Body>, RestError> {
        let mut head = self.head(call, authorization);
        if !call.body.is_empty() {
            head = head.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(call.body.clone()).map_err(|never| match never {});
        head.body(body.boxed_unsync()).map_err(|_| self.odd_path())
    }

    fn head(&self, call: &Call, authorization: Option<&HeaderValue>) -> request::Builder {
        let target = format!(
            "{}{}",
            self.settings.url.path().trim_end_matches('/'),
            call.path
        );
        let head = Request::builder()
            .method(call.method.clone())
            .uri(target)
            .header(HOST, self.host_header.clone())
            .header(USER_AGENT, concat!("drey/", env!("CARGO_PKG_VERSION")));
        match authorization {
            Some(value) => head.header(AUTHORIZATION, value.clone()),
            None => head,
        }
    }

    fn odd_path(&self) -> RestError {
        settings_error(&self.settings.url, "has a path that HTTP cannot carry")
    }

    async fn dial(&self, call: &Call) -> Result<Connection, RestError> {
        let authorization = self
            .settings
            .auth
            .as_ref()
            .map(|auth| credentials(call, auth))
            .transpose()?;
        let bare_host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare_host, self.port))
            .await
            .map_err(|error| {
                unreachable(
                    call,
                    format!("could not connect to {}:{}", self.host, self.port),
                    Some(error.into()),
                )
            })?;
        // Small requests wait for nothing; a failure to set this costs time only.
        let _ = stream.set_nodelay(true);
        let sender = match &self.server_name {
            None => start(call, stream).await?,
            Some(name) => {
                let refused = |source| RestError::Tls {
                    request: call.name(),
                    source,
                };
                let config = tls::client_config(&self.settings.tls).map_err(refused)?;
                let connector = TlsConnector::from(Arc::new(config));
                let stream = connector.connect(name.clone(), stream).await;
                start(call, stream.map_err(|error| io_failure(call, error))?).await?
            }
        };
        Ok(Connection {
            sender,
            authorization,
            reused: false,
        })
    }
}

/// Speaks HTTP/1.1 on the stream. The task ends with the connection, or when its sender is dropped.
async fn start<S>(call: &Call, stream: S) -> Result<SendRequest<Body>, RestError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure(call, error))?;
    // Failures reach the request that is under way; an idle connection is just closed.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Reads the file for each connection, so that rotated credentials work.
fn credentials(call: &Call, auth: &Auth) -> Result<HeaderValue, RestError> {
    let (Auth::Bearer(path) | Auth::Basic(path)) = auth;
    let failed = |source| RestError::Credentials {
        request: call.name(),
        path: path.clone(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let secret = text.trim();
    let invalid = || {
        failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "empty, or not one line of text",
        ))
    };
    if secret.is_empty() {
        return Err(invalid());
    }
    let value = match auth {
        Auth::Bearer(_) => format!("Bearer {secret}"),
        Auth::Basic(_) => format!("Basic {}", BASE64_STANDARD.encode(secret)),
    };
    let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok(value)
}

fn check_url(url: &Url) -> Result<(String, u16), RestError> {
    let refused = |what| Err(settings_error(url, what));
    if !matches!(url.scheme(), "http" | "https") {
        return refused("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("must not contain credentials: put them into a file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("must have neither a query nor a fragment: write http://HOST:PORT");
    }
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => Ok((host.to_owned(), port)),
        _ => refused("needs a host: write http://HOST:PORT"),
    }
}

fn settings_error(url: &Url, what: &'static str) -> RestError {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    RestError::Settings {
        url: shown.to_string(),
        what,
    }
}

fn is_unauthorized(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn unreachable(
    call: &Call,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
) -> RestError {
    RestError::Unreachable {
        request: call.name(),
        what,
        source,
    }
}

fn closed_at_once(call: &Call) -> RestError {
    unreachable(call, "the connection was closed at once".to_owned(), None)
}

fn io_failure(call: &Call, error: std::io::Error) -> RestError {
    match tls::handshake_failure(&error) {
        Some(source) => RestError::Tls {
            request: call.name(),
            source,
        },
        None => unreachable(
            call,
            "the connection broke during the TLS handshake".to_owned(),
            Some(error.into()),
        ),
    }
}

fn failure(call: &Call, error: hyper::Error) -> RestError {
    if let Some(source) = tls::handshake_failure(&error) {
        return RestError::Tls {
            request: call.name(),
            source,
        };
    }
    if error.is_parse() {
        return RestError::Garbage {
            request: call.name(),
            what: format!("not HTTP ({error})"),
        };
    }
    unreachable(
        call,
        "the connection broke before the answer".to_owned(),
        Some(error.into()),
    )
}

fn body_failure(call: &Call, limit: usize, error: Box<dyn StdError + Send + Sync>) -> RestError {
    if error.is::<LengthLimitError>() {
        return RestError::TooLarge {
            request: call.name(),
            limit,
        };
    }
    unreachable(
        call,
        "the connection broke within the answer".to_owned(),
        Some(error),
    )
}
