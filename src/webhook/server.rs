//! TCP and TLS: accepts, limits, drains. Knows nothing of what is asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::connections::{Connections, Place};
use super::tls::Tls;

/// How long a handshake may take, and after it the first request.
const PROMPTLY: Duration = Duration::from_secs(5);

/// How long a connection may be quiet between two requests. An API server closes one after 90 s, and it must be the one to do so: what it
/// sends while we close would be lost.
const QUIET: Duration = Duration::from_secs(120);

/// The most that the head of a request may have, in bytes.
const HEAD: usize = 32 << 10;

/// What answers requests.
pub(super) trait Handler: Send + Sync + 'static {
    /// The answer to one of them.
    fn handle(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// Connections are to be closed after their next answer.
    fn ending(&self) -> bool;
}

/// Accepts connections, in plain text or with what `tls` has, as long as it is polled.
pub(super) async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    connections: Arc<Connections>,
    handler: Arc<H>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No file descriptors left, most likely: room comes as connections end.
                warn!(%error, "Cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = connections.enter();
        let (tls, handler) = (tls.clone(), Arc::clone(&handler));
        tokio::spawn(connection(stream, tls, place, handler));
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    place: Place,
    handler: Arc<H>,
) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return requests(stream, place, handler).await;
    };
    let served = match tls.current() {
        Ok(served) => served,
        Err(error) => return debug!(error, "Refused a connection"),
    };
    let connection = Arc::clone(&place.connection);
    let handshake = timeout(PROMPTLY, TlsAcceptor::from(served.config).accept(stream));
    tokio::select! {
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => requests(stream, place, handler).await,
            Ok(Err(error)) => debug!(%error, "A TLS handshake failed"),
            Err(_) => debug!("A TLS handshake took too long"),
        },
        () = connection.go.notified() => {}
    }
}

async fn requests<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    place: Place,
    handler: Arc<H>,
) {
    let connection = Arc::clone(&place.connection);
    let answer = service_fn(|request| {
        place.asks();
        let handler = Arc::clone(&handler);
        async move {
            let mut response = handler.handle(request).await;
            if handler.ending() {
                let close = hyper::header::HeaderValue::from_static("close");
                response.headers_mut().insert("connection", close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(QUIET)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    let mut served = std::pin::pin!(served);
    let first = async {
        sleep(PROMPTLY).await;
        if connection.requests.load(Ordering::Relaxed) > 0 {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = &mut served => {}
        () = first => {}
        () = connection.go.notified() => {
            served.as_mut().graceful_shutdown();
            // What is being answered is answered; the rest was quiet.
            let _ = timeout(PROMPTLY, served).await;
        }
    }
}
