//! When a peer was last heard: any byte counts, also in the middle of a large message.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When something last came over a connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LastHeard {
    opened: Instant,
    /// Milliseconds from then on.
    last: Arc<AtomicU64>,
}

impl LastHeard {
    fn note(&self) {
        let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Returns once nothing has come for `bound`. Silence before this call does not count: maybe nobody was reading then.
    pub(crate) async fn silent_for(&self, bound: Duration) {
        let began = Instant::now();
        loop {
            let last = self.opened + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let due = last.max(began) + bound;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A connection that notes when something comes.
#[derive(Debug)]
pub(crate) struct HeardStream<S> {
    stream: S,
    last_heard: LastHeard,
}

impl<S> HeardStream<S> {
    pub(crate) fn new(stream: S) -> (Self, LastHeard) {
        let last_heard = LastHeard { opened: Instant::now(), last: Arc::default() };
        (Self { stream, last_heard: last_heard.clone() }, last_heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeardStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.last_heard.note();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeardStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
