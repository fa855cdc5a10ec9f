//! Flink's own reporter, on this machine alone.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::line::{Labels, Line, read};
use super::lines::Lines;
use crate::config::Ports;

/// What is asked for: Flink's reporter knows nothing else.
const TEXT: &str = "text/plain; version=0.0.4";

/// How long it takes to connect on one machine, at most.
const CONNECT: Duration = Duration::from_millis(500);

/// The longest page that is read, in bytes.
const LONGEST: usize = 1 << 30;

/// What the names of all of Flink's series begin with (`AbstractPrometheusReporter.SCOPE_PREFIX`).
const FLINKS: &str = "flink_";

/// How much of a page is read to find out whose it is, in bytes.
const BEGINNING: usize = 2 << 20;

/// Why there is no page, or only the beginning of one.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody listens.
    #[error("nothing listens on any of the ports {0}")]
    Down(Ports),
    /// The time is up.
    #[error("it did not answer in time")]
    Slow,
    /// It is not Flink's reporter, or something is wrong with it.
    #[error("port {port} answered {what}")]
    Unfit {
        /// The port.
        port: u16,
        /// What came.
        what: String,
    },
    /// It broke off.
    #[error("it broke off")]
    Broken(#[source] hyper::Error),
    /// There is no end to it.
    #[error("its page is longer than {LONGEST} bytes")]
    Endless,
}

/// The reporter of one Flink.
#[derive(Debug)]
pub struct Upstream {
    ports: Ports,
    /// Where it answered last; 0 for nowhere.
    last: AtomicU16,
}

/// A page on its way.
#[derive(Debug)]
pub struct Coming {
    /// What was read of it already.
    begun: VecDeque<Bytes>,
    body: Incoming,
    _connection: Connection,
    length: usize,
}

impl Coming {
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

    async fn piece(&mut self) -> Result<Option<Bytes>, UpstreamError> {
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

    /// Reads up to the first series; whether there is one. Other programs have metrics, too, and their ports may be next to
    /// Flink's.
    async fn recognize(&mut self, port: u16) -> Result<bool, UpstreamError> {
        let mut lines = Lines::default();
        let mut first = None;
        while first.is_none() {
            let unfit = |what: &str| UpstreamError::Unfit {
                port,
                what: what.to_owned(),
            };
            if self.length > BEGINNING {
                return Err(unfit("without a series in the beginning"));
            }
            let Some(piece) = self.piece().await? else {
                return Ok(false);
            };
            lines.feed(&piece, |line| first = first.or_else(|| is_flinks(line)));
            self.begun.push_back(piece);
            if first == Some(false) {
                return Err(unfit("with metrics that are not Flink's"));
            }
        }
        Ok(true)
    }
}

/// Whether a line is a series of Flink's; `None` when it is no series.
fn is_flinks(line: &[u8]) -> Option<bool> {
    match read(std::str::from_utf8(line).ok()?, &mut Labels::default()) {
        Ok(Line::Sample(sample)) => Some(sample.name.starts_with(FLINKS)),
        _ => None,
    }
}

impl Upstream {
    /// The reporter at one of `ports`.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self {
            ports,
            last: AtomicU16::new(0),
        }
    }

    /// Asks for the page. Where several ports answer at all, each gets its part of the time.
    ///
    /// # Errors
    /// When it does not come by `deadline`.
    pub async fn open(&self, deadline: Instant) -> Result<Coming, UpstreamError> {
        let mut found = self.listening().await;
        let mut error = UpstreamError::Down(self.ports);
        let mut silent = None;
        while !found.is_empty() {
            let (port, stream) = found.remove(0);
            let left = deadline.saturating_duration_since(Instant::now());
            let parts = u32::try_from(found.len() + 1).unwrap_or(u32::MAX);
            match timeout(left / parts, ask(port, stream)).await {
                Ok(Ok((coming, true))) => {
                    self.last.store(port, Ordering::Relaxed);
                    return Ok(coming);
                }
                // A Flink that has nothing to say yet, or somebody else.
                Ok(Ok((coming, false))) => silent = Some(coming),
                Ok(Err(unfit)) => error = unfit,
                Err(_) => error = UpstreamError::Slow,
            }
            // Somebody else may have the port by now, and Flink the next one.
            self.last.store(0, Ordering::Relaxed);
        }
        silent.ok_or(error)
    }

    /// The ports that somebody listens at, that of the last time first.
    async fn listening(&self) -> Vec<(u16, TcpStream)> {
        let last = self.last.load(Ordering::Relaxed);
        if last != 0
            && let Ok(stream) = connect(last).await
        {
            return vec![(last, stream)];
        }
        let mut found = Vec::new();
        for port in self.ports.all() {
            if let Ok(stream) = connect(port).await {
                found.push((port, stream));
            }
        }
        self.last.store(0, Ordering::Relaxed);
        found
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let mut error = io::ErrorKind::TimedOut.into();
    for address in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        let stream = TcpStream::connect(SocketAddr::new(address, port));
        match timeout(CONNECT, stream).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refused)) => error = refused,
            Err(_) => {}
        }
    }
    Err(error)
}

/// The page at `port`, and whether it has a series of Flink's.
async fn ask(port: u16, stream: TcpStream) -> Result<(Coming, bool), UpstreamError> {
    let unfit = |what: String| UpstreamError::Unfit { port, what };
    let broken = |error: hyper::Error| unfit(crate::telemetry::one_line(&error, 200));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let connection = tokio::spawn(connection).abort_handle();
    let connection = Connection(connection);
    let request = Request::get("/metrics")
        .header(HOST, format!("localhost:{port}"))
        .header(ACCEPT, TEXT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unfit(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    check(&response).map_err(unfit)?;
    let mut coming = Coming {
        begun: VecDeque::new(),
        body: response.into_body(),
        _connection: connection,
        length: 0,
    };
    let known = coming.recognize(port).await?;
    Ok((coming, known))
}

/// Ends with the page that comes over it.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A redirect is not followed: it leads away from this machine.
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
