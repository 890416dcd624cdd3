//! A virtual stream as a connection: queues of whole messages in both directions, each within a bound.
//!
//! Whoever owns the websocket holds the [`Inlet`] and the [`Outlet`]; the server serves the [`Carrier`]. Between the
//! server's frame buffer and the outlet a message is preceded by its length (see [`Framing::Stream`]).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, mpsc};

use super::frame::{LENGTH_BYTES, Prefix};
use super::{Carrier, Framing, MessageReader};

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
    let (sender, receiver) = mpsc::unbounded_channel();
    let incoming = Arc::new(Incoming { bytes: AtomicUsize::new(0), taken: Notify::new() });
    let outgoing =
        Arc::new(Outgoing { news: Box::new(news), bound: bounds.outgoing_bytes, queue: Mutex::default() });
    let inbox = Inbox { receiver, current: Bytes::new(), incoming: Arc::clone(&incoming) };
    let carrier = Carrier {
        reader: MessageReader::stream(inbox),
        sink: Box::new(Sink { outgoing: Arc::clone(&outgoing), partial: BytesMut::new() }),
        framing: Framing::Stream { longest_message: bounds.longest_message },
    };
    (carrier, Inlet { sender, incoming, bound: bounds.incoming_bytes }, Outlet { outgoing })
}

#[derive(Debug)]
struct Incoming {
    bytes: AtomicUsize,
    taken: Notify,
}

/// What comes in for the server.
#[derive(Debug)]
enum Inbound {
    Message(Bytes),
    Pong(Bytes),
}

/// Where messages for the server are put. Dropping it is the end of the connection.
#[derive(Debug)]
pub struct Inlet {
    sender: mpsc::UnboundedSender<Inbound>,
    incoming: Arc<Incoming>,
    bound: usize,
}

impl Inlet {
    /// Hands a message to the server; gives it back when too much waits already.
    ///
    /// # Errors
    /// The message, when it has no room.
    pub fn push(&self, message: Bytes) -> Result<(), Bytes> {
        let waiting = self.waiting();
        if waiting > 0 && waiting.saturating_add(message.len()) > self.bound {
            return Err(message);
        }
        self.incoming.bytes.fetch_add(message.len(), Ordering::Relaxed);
        // A server that is gone reads nothing more; its end is seen elsewhere.
        let _ = self.sender.send(Inbound::Message(message));
        Ok(())
    }

    /// How many bytes wait for the server.
    pub fn waiting(&self) -> usize {
        self.incoming.bytes.load(Ordering::Relaxed)
    }

    /// Waits until the server has taken something. To be asked again, not relied upon.
    pub async fn taken(&self) {
        let taken = self.incoming.taken.notified();
        if self.waiting() > 0 && !self.sender.is_closed() {
            tokio::select! {
                () = taken => {}
                () = self.sender.closed() => {}
            }
        }
    }

    /// Tells the server that its ping with this payload was answered.
    pub fn pong(&self, payload: Bytes) {
        let _ = self.sender.send(Inbound::Pong(payload));
    }
}

/// The server's end of an [`Inlet`].
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: mpsc::UnboundedReceiver<Inbound>,
    current: Bytes,
    incoming: Arc<Incoming>,
}

impl Inbox {
    /// The next event; cancel-safe.
    pub(super) async fn next(&mut self) -> super::Event<'_> {
        match self.receiver.recv().await {
            None => super::Event::End,
            Some(Inbound::Message(message)) => {
                self.incoming.bytes.fetch_sub(message.len(), Ordering::Relaxed);
                self.incoming.taken.notify_one();
                self.current = message;
                super::Event::Message(&self.current)
            }
            Some(Inbound::Pong(payload)) => {
                self.current = payload;
                super::Event::Pong(&self.current)
            }
        }
    }
}

/// What goes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Outbound {
    /// One message.
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
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
