//! Flink's own reporter, on this machine alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::coming::{Coming, LONGEST};
use super::line::{Labels, Line, read};
use super::lines::Lines;
use crate::config::Ports;

/// How long it takes to connect on one machine, at most.
const CONNECT: Duration = Duration::from_millis(500);

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
    /// Somebody does not take a connection.
    #[error("{address} does not take a connection")]
    Away {
        /// Its address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// It is not what was looked for, or something is wrong with it.
    #[error("{address} answered {what}")]
    Unfit {
        /// Its address.
        address: String,
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
    let mut coming = Coming::ask(&format!("localhost:{port}"), stream, false).await?;
    let known = recognize(&mut coming).await?;
    Ok((coming, known))
}

/// Reads up to the first series; whether there is one. Other programs have metrics, too, and their ports may be next to
/// Flink's.
async fn recognize(coming: &mut Coming) -> Result<bool, UpstreamError> {
    let mut lines = Lines::default();
    let mut first = None;
    while first.is_none() {
        if coming.length() > BEGINNING {
            return Err(coming.unfit("without a series in the beginning"));
        }
        let Some(piece) = coming.piece().await? else {
            return Ok(false);
        };
        lines.feed(&piece, |line| first = first.or_else(|| is_flinks(line)));
        coming.put_back(piece);
        if first == Some(false) {
            return Err(coming.unfit("with metrics that are not Flink's"));
        }
    }
    Ok(true)
}
