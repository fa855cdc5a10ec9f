//! The loop of a small server: connections, so many at a time and each for so long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::telemetry::one_line;

/// How long to wait when the system has no more sockets.
const NO_SOCKET: Duration = Duration::from_millis(200);

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there are at most. Others wait until they are accepted.
    pub connections: usize,
    /// How long one connection may last, whatever happens on it.
    pub lifetime: Duration,
}

/// Gives each connection that comes in at `listener` to `serve`, for ever.
pub async fn connections<F>(
    listener: TcpListener,
    limits: Limits,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = timeout(limits.lifetime, serve(stream, peer));
                tokio::spawn(async move {
                    let _ = connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                let error: &std::io::Error = &error;
                let error = one_line(error, 200);
                warn!(error, "No connection could be accepted");
                sleep(NO_SOCKET).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that says one byte to each and then waits for the end of the connection.
    async fn server(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(connections(listener, limits, |mut stream, _| async move {
            let _ = stream.write_all(b"x").await;
            let _ = stream.read(&mut [0]).await;
        }));
        address
    }

    #[tokio::test]
    async fn those_beyond_the_limit_wait_until_one_goes() {
        let address = server(Limits {
            connections: 1,
            lifetime: Duration::from_secs(600),
        })
        .await;
        let mut first = TcpStream::connect(address).await.expect("connected");
        let mut byte = [0];
        first.read_exact(&mut byte).await.expect("served");
        let mut second = TcpStream::connect(address).await.expect("connected");
        let waits = timeout(Duration::from_millis(50), second.read_exact(&mut byte)).await;
        assert!(waits.is_err(), "there is one place");
        drop(first);
        second.read_exact(&mut byte).await.expect("served");
    }

    #[tokio::test]
    async fn none_lasts_longer_than_it_may() {
        let address = server(Limits {
            connections: 1,
            lifetime: Duration::from_millis(50),
        })
        .await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("an end");
        assert_eq!(all, b"x");
    }
}
