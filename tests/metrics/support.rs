//! A Flink that answers as it is told, Drey's server in front of it, and a scraper.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use drey::config::Ports;
use drey::metrics::aggregate::TaskManagers;
use drey::metrics::own::Own;
use drey::metrics::proxy::{Proxy, Served};
use drey::metrics::relabel::Rules;
use drey::metrics::server::Server;
use drey::metrics::upstream::Upstream;
use drey::metrics::web_config::Web;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a Flink answers with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A page, complete.
    Page(Vec<u8>),
    /// These bytes, and then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and then nothing more.
    Stuck(Vec<u8>),
    /// These bytes, then these again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// One byte at a time.
    Drip(Vec<u8>),
}

/// A Flink that is none.
#[derive(Debug)]
pub struct Flink {
    pub port: u16,
    asked: Arc<AtomicUsize>,
}

impl Flink {
    pub async fn answering(answer: Answer) -> Self {
        let flink = Self::answering_at("127.0.0.1:0", answer).await;
        flink.expect("a port")
    }

    pub async fn answering_at(address: &str, answer: Answer) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(reply(stream, answer.clone()));
            }
        });
        Ok(Self { port, asked })
    }

    pub async fn with_page(page: &str) -> Self {
        Self::answering(Answer::Page(page.as_bytes().to_vec())).await
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The head of a page without a length: it ends with the connection.
pub const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n";

/// The head, and then `page`.
pub fn raw(page: &[u8]) -> Vec<u8> {
    [HEAD, page].concat()
}

async fn reply(mut stream: TcpStream, answer: Answer) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    match answer {
        Answer::Page(page) => {
            let length = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
                page.len()
            );
            let _ = stream.write_all(&[length.as_bytes(), &page].concat()).await;
        }
        Answer::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Answer::Stuck(bytes) => {
            let _ = stream.write_all(&bytes).await;
            // Until the other side has had enough.
            let _ = stream.read(&mut head).await;
        }
        Answer::Endless(first, again) => {
            let mut written = stream.write_all(&first).await;
            while written.is_ok() {
                written = stream.write_all(&again).await;
            }
        }
        Answer::Drip(bytes) => {
            let _ = stream.set_nodelay(true);
            for byte in bytes {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// How Drey serves.
pub struct Options {
    pub ports: Ports,
    pub rules: Rules,
    pub limit: u64,
    pub cache: Duration,
    pub web: Web,
    pub others: Option<TaskManagers>,
}

impl Options {
    pub fn of(flink: &Flink) -> Self {
        Self {
            ports: one(flink.port),
            rules: Rules::default(),
            limit: 1_000_000,
            cache: Duration::ZERO,
            web: Web::default(),
            others: None,
        }
    }

    pub async fn listener(&self) -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.expect("a port")
    }

    /// Drey's address.
    pub async fn serve(self) -> SocketAddr {
        let listener = self.listener().await;
        let address = listener.local_addr().expect("an address");
        self.serve_at(listener);
        address
    }

    pub fn serve_at(self, listener: TcpListener) {
        let served = Served {
            rules: self.rules,
            limit: self.limit,
            cache: self.cache,
            labels: Rules::adding(vec![("cluster_id".to_owned(), "test".to_owned())]),
        };
        let proxy = Proxy::new(Upstream::new(self.ports), served, Arc::new(Own::new()));
        let proxy = proxy.with(self.others);
        tokio::spawn(Server::new(proxy, self.web).serve(listener));
    }
}

pub fn one(port: u16) -> Ports {
    Ports {
        first: port,
        last: port,
    }
}

/// An answer to a scrape.
#[derive(Debug)]
pub struct Scraped {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Scraped {
    /// The value of the series `name`, which is written so.
    pub fn value(&self, name: &str) -> Option<f64> {
        let line = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// The value of one of Drey's own.
    pub fn own(&self, name: &str) -> Option<f64> {
        self.value(&format!("{name}{{cluster_id=\"test\"}}"))
    }

    /// How many lines were left out for `reason`.
    pub fn dropped(&self, reason: &str) -> Option<f64> {
        self.value(&format!(
            "drey_flink_lines_dropped_total{{reason=\"{reason}\",cluster_id=\"test\"}}"
        ))
    }

    /// What is not Drey's own.
    pub fn flinks(&self) -> String {
        let lines = self
            .text
            .lines()
            .filter(|line| !line.contains("drey_") && *line != "# EOF");
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// Asks Drey, with `headers` such as `accept: text/plain`.
pub async fn scrape(address: SocketAddr, headers: &[&str]) -> Scraped {
    let stream = TcpStream::connect(address).await.expect("connected");
    exchange(stream, "GET /metrics", headers).await
}

/// One request over `stream`.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    headers: &[&str],
) -> Scraped {
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let request = format!("{request} HTTP/1.0\r\nhost: drey\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
    let body = &bytes[end + 4..];
    let mut text = String::new();
    if head.contains("content-encoding: gzip") {
        let mut reader = flate2::read::GzDecoder::new(body);
        reader.read_to_string(&mut text).expect("a gzip file");
    } else {
        text = String::from_utf8(body.to_vec()).expect("UTF-8");
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Scraped {
        status: status.expect("a status"),
        head,
        text,
    }
}
