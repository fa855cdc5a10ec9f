//! A page of metrics on its way, over a connection of its own.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::upstream::UpstreamError;

/// What is asked for: Flink's reporter knows nothing else.
const TEXT: &str = "text/plain; version=0.0.4";

/// Says that the answer goes into a page of others, too: who makes such a page must not be in it.
pub const AGGREGATED: &str = "drey-aggregated";

/// The longest page that is read, in bytes.
pub const LONGEST: usize = 1 << 30;

/// A page on its way.
#[derive(Debug)]
pub struct Coming {
    address: String,
    /// What was read of it already.
    begun: VecDeque<Bytes>,
    body: Incoming,
    _connection: Connection,
    length: usize,
}

impl Coming {
    /// Asks at `address` for its page. A redirect is not followed: it leads elsewhere.
    ///
    /// # Errors
    /// When none comes.
    pub async fn ask(
        address: &str,
        stream: TcpStream,
        aggregated: bool,
    ) -> Result<Self, UpstreamError> {
        let broken = |error: hyper::Error| unfit(address, crate::telemetry::one_line(&error, 200));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = Connection(tokio::spawn(connection).abort_handle());
        let mut request = Request::get("/metrics")
            .header(HOST, address)
            .header(ACCEPT, TEXT)
            .header(CONNECTION, "close");
        if aggregated {
            request = request.header(AGGREGATED, "1");
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| unfit(address, error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        check(&response).map_err(|what| unfit(address, what))?;
        Ok(Self {
            address: address.to_owned(),
            begun: VecDeque::new(),
            body: response.into_body(),
            _connection: connection,
            length: 0,
        })
    }

    /// The next piece of the page; `None` at its end.
    ///
    /// # Errors
    /// When there is none by `deadline`.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Bytes>, UpstreamError> {
        match self.begun.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => timeout_at(deadline, self.piece())
                .await
                .map_err(|_| UpstreamError::Slow)?,
        }
    }

    /// The next piece that comes.
    ///
    /// # Errors
    /// When it breaks off, or has no end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(UpstreamError::Broken(error)),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.length += data.len();
                    if self.length > LONGEST {
                        return Err(UpstreamError::Endless);
                    }
                    return Ok(Some(data));
                }
            }
        }
    }

    /// This piece is to be read once more.
    pub fn put_back(&mut self, piece: Bytes) {
        self.begun.push_back(piece);
    }

    /// How much has come.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Why this is no page.
    #[must_use]
    pub fn unfit(&self, what: &str) -> UpstreamError {
        unfit(&self.address, what.to_owned())
    }
}

fn unfit(address: &str, what: String) -> UpstreamError {
    UpstreamError::Unfit {
        address: address.to_owned(),
        what,
    }
}

/// Ends with the page that comes over it.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn check(response: &Response<Incoming>) -> Result<(), String> {
    if response.status() != StatusCode::OK {
        return Err(response.status().to_string());
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/plain") {
        return Ok(());
    }
    let shown: String = kind.chars().take(60).flat_map(char::escape_debug).collect();
    Err(format!("with `{shown}` instead of metrics"))
}
