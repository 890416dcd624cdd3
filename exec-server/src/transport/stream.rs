//! A virtual stream as a connection: queues of whole messages in both directions, each within a bound.
//!
//! Whoever owns the websocket holds the [`Inlet`] and the [`Outlet`]; the server serves the [`Carrier`]. Between the
//! server's frame buffer and the outlet a message is preceded by its length (see [`Framing::Stream`]).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::AsyncWrite;

use super::carrier::{Carrier, Owner};
use super::frame::{Framing, LENGTH_BYTES, Prefix};
use super::inlet::{Inlet, inlet};
use super::reader::MessageReader;
use crate::observe::Address;

/// The bounds of one stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamBounds {
    /// Bytes that wait for the server; one more message is refused. An empty queue takes a message of any length.
    pub incoming_bytes: usize,
    /// Bytes that wait for the websocket; then the server waits.
    pub outgoing_bytes: usize,
    /// Longest message that the stream carries; a longer answer becomes an error.
    pub longest_message: usize,
}

/// A carrier for the server and the other ends of it. `news` is called when the outlet has something after it had
/// nothing.
pub fn stream(bounds: StreamBounds, news: impl Fn() + Send + Sync + 'static) -> (Carrier, Inlet, Outlet) {
    let (inlet, inbox) = inlet(bounds.incoming_bytes);
    let outgoing =
        Arc::new(Outgoing { news: Box::new(news), bound: bounds.outgoing_bytes, queue: Mutex::default() });
    let carrier = Carrier {
        reader: MessageReader::stream(inbox),
        sink: Box::new(Sink { outgoing: Arc::clone(&outgoing), partial: BytesMut::new() }),
        framing: Framing::Stream { longest_message: bounds.longest_message },
        // Whoever the registry lets through to this executor may do on the machine what any other may.
        owner: Owner::default(),
        peer: Address::Relay { stream: None }.into(),
    };
    (carrier, inlet, Outlet { outgoing })
}

/// What a stream sends to its peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Outbound {
    /// One whole JSON-RPC message.
    Message(Bytes),
    /// A ping, to be sent behind the messages before it.
    Ping(Bytes),
}

struct Outgoing {
    news: Box<dyn Fn() + Send + Sync>,
    bound: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Outbound>,
    bytes: usize,
    /// Nobody takes anything any more.
    closed: bool,
    waiting: Option<Waker>,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}

/// Where the server's messages come out. Dropping it makes the server's writing fail.
pub struct Outlet {
    outgoing: Arc<Outgoing>,
}

impl Outlet {
    /// The next thing to send.
    pub fn take(&self) -> Option<Outbound> {
        let mut queue = self.outgoing.lock();
        let item = queue.items.pop_front()?;
        if let Outbound::Message(message) = &item {
            queue.bytes -= message.len();
        }
        let waker = if queue.bytes < self.outgoing.bound { queue.waiting.take() } else { None };
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(item)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut queue = self.outgoing.lock();
        queue.closed = true;
        queue.items.clear();
        let waker = queue.waiting.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// Cuts what the server writes into its messages.
struct Sink {
    outgoing: Arc<Outgoing>,
    partial: BytesMut,
}

impl Sink {
    /// The next message or ping that is there in full.
    fn next(&mut self) -> Option<Outbound> {
        let prefix = Prefix::read(*self.partial.first_chunk::<LENGTH_BYTES>()?);
        if self.partial.len() - LENGTH_BYTES < prefix.length {
            return None;
        }
        self.partial.advance(LENGTH_BYTES);
        let body = self.partial.split_to(prefix.length).freeze();
        Some(if prefix.ping { Outbound::Ping(body) } else { Outbound::Message(body) })
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outgoing = Arc::clone(&self.outgoing);
        let mut queue = outgoing.lock();
        if queue.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if queue.bytes >= outgoing.bound {
            queue.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        let was_empty = queue.items.is_empty();
        self.partial.extend_from_slice(bytes);
        while let Some(item) = self.next() {
            if let Outbound::Message(message) = &item {
                queue.bytes += message.len();
            }
            queue.items.push_back(item);
        }
        let has_news = was_empty && !queue.items.is_empty();
        drop(queue);
        if has_news {
            (outgoing.news)();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
