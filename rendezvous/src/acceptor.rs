//! Accepts TCP connections: `TCP_NODELAY` on each, and no more of them than there may be.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

/// Bounds how many connections are open at once.
#[derive(Debug, Clone)]
pub(crate) struct BoundedAcceptor {
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl BoundedAcceptor {
    pub(crate) fn new(connections: usize, metrics: Arc<Metrics>) -> Self {
        let places = connections.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), metrics }
    }

    fn enter(&self, stream: TcpStream) -> io::Result<Counted> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            self.metrics.refused("too_many_connections");
            io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections")
        })?;
        stream.set_nodelay(true)?;
        let home = Handle::try_current().ok().map(|runtime| runtime.id());
        Ok(Counted { stream: Some(stream), home, _place: place })
    }
}

impl<S> Accept<TcpStream, S> for BoundedAcceptor {
    type Stream = Counted;
    type Service = S;
    type Future = Ready<io::Result<(Counted, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let entered = self.enter(stream);
        if let Err(error) = &entered {
            tracing::debug!(%error, "a connection is closed");
        }
        ready(entered.map(|stream| (stream, service)))
    }
}

/// A connection that holds its place, also after an upgrade. It goes along to the thread of its task: the event loop that it
/// is known to is that of whoever uses it.
#[derive(Debug)]
pub(crate) struct Counted {
    /// `None` only if it could not go along.
    stream: Option<TcpStream>,
    home: Option<Id>,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let here = Handle::try_current().ok().map(|runtime| runtime.id());
        if here != self.home {
            self.home = here;
            let moved = self.stream.take().map(TcpStream::into_std).transpose()?;
            self.stream = moved.map(TcpStream::from_std).transpose()?;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}
