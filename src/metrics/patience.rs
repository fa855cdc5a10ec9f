//! A connection on which an answer may take only so long, however slowly it is read: its place is for others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Says that a request has come: the time of its answer begins with the first byte of it.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// A request has come.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection.
#[derive(Debug)]
pub struct Patience<S> {
    stream: S,
    time: Duration,
    asked: Asked,
    end: Pin<Box<Sleep>>,
}

impl<S> Patience<S> {
    /// `stream`, on which each answer may take `time`.
    pub fn new(stream: S, time: Duration, asked: Asked) -> Self {
        Self {
            stream,
            time,
            asked,
            end: Box::pin(sleep(time)),
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.asked.0.swap(false, Ordering::Relaxed) {
            self.end.as_mut().reset(Instant::now() + self.time);
        }
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All that is left of a TLS stream's answer may wait here. Without an answer there is nothing to time.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => {
                self.check(context)?;
                Poll::Pending
            }
            done => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_or_drips_loses_its_connection() {
        for drips in [false, true] {
            let (here, mut there) = duplex(64);
            let asked = Asked::default();
            let mut here = Patience::new(here, TIME, asked.clone());
            let reader = tokio::spawn(async move {
                let mut byte = [0];
                while drips && there.read(&mut byte).await.is_ok_and(|count| count > 0) {
                    sleep(Duration::from_secs(1)).await;
                }
                sleep(10 * TIME).await;
            });
            sleep(2 * TIME).await;
            asked.now();
            let began = Instant::now();
            let error = here.write_all(&[0; 10_000]).await.expect_err("too slow");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "drips: {drips}");
            assert_eq!(began.elapsed().as_secs(), TIME.as_secs());
            reader.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_own_time() {
        let (here, mut there) = duplex(64);
        let asked = Asked::default();
        let mut here = Patience::new(here, TIME, asked.clone());
        for _ in 0..5 {
            asked.now();
            let mut read = [0; 1000];
            let (written, come) =
                tokio::join!(here.write_all(&[7; 1000]), there.read_exact(&mut read));
            written.expect("in time");
            assert_eq!(come.expect("everything"), 1000);
            sleep(2 * TIME).await;
        }
    }
}
