//! What comes in on a virtual stream: whole messages for the server, within a bound of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::event::PeerEvent;

/// What a waiting message costs besides its bytes: its place in the queue, and its allocation's own needs. So the bound
/// in bytes is one in messages, too.
const MESSAGE_OVERHEAD: usize = 128;
/// A message up to this length is copied where it has to wait: it may be a small piece of a frame, or of a read buffer
/// that is shared with others, all of which it would keep. What is longer is a good part of what it keeps.
/// Chosen for speed.
const COPIED_BYTES: usize = 32 << 10;
/// Pongs that wait for the server, which has at most half as many pings unanswered: more are a peer's invention, and
/// dropped.
const WAITING_PONGS: usize = 128;

/// A stream's two ends. `bound` is in bytes of memory that waiting messages hold.
pub(super) fn inlet(bound: usize) -> (Inlet, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(Waiting::default());
    let inbox = Inbox { receiver, current: Bytes::new(), waiting: Arc::clone(&waiting) };
    (Inlet { sender, waiting, bound }, inbox)
}

/// What is in the queue.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    pongs: AtomicUsize,
    taken: Notify,
    /// The inlet is gone, whatever is still queued.
    ended: Notify,
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
    /// Bounded by [`Inlet::push`] and [`Inlet::pong`].
    sender: mpsc::UnboundedSender<Inbound>,
    waiting: Arc<Waiting>,
    bound: usize,
}

/// Memory that a waiting message counts for.
fn weight(message: &Bytes) -> usize {
    message.len().saturating_add(MESSAGE_OVERHEAD)
}

impl Inlet {
    /// Hands a message to the server; gives it back when too much waits already. An empty queue takes one of any length.
    ///
    /// # Errors
    /// The message, when it has no room.
    pub fn push(&self, message: Bytes) -> Result<(), Bytes> {
        let waiting = self.waiting();
        if waiting > 0 && waiting.saturating_add(weight(&message)) > self.bound {
            return Err(message);
        }
        let message = match message.len() {
            ..=COPIED_BYTES => Bytes::copy_from_slice(&message),
            _ => message,
        };
        self.waiting.bytes.fetch_add(weight(&message), Ordering::Relaxed);
        // A server that is gone reads nothing more; its end is seen elsewhere.
        let _ = self.sender.send(Inbound::Message(message));
        Ok(())
    }

    /// How many bytes of memory wait for the server.
    pub fn waiting(&self) -> usize {
        self.waiting.bytes.load(Ordering::Relaxed)
    }

    /// Waits until the server has taken something. To be asked again, not relied upon.
    pub async fn taken(&self) {
        let taken = self.waiting.taken.notified();
        if self.waiting() > 0 && !self.sender.is_closed() {
            tokio::select! {
                () = taken => {}
                () = self.sender.closed() => {}
            }
        }
    }

    /// Tells the server that its ping with this payload was answered.
    pub fn pong(&self, payload: Bytes) {
        let room = |waiting: usize| (waiting < WAITING_PONGS).then_some(waiting + 1);
        if self.waiting.pongs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok() {
            let _ = self.sender.send(Inbound::Pong(Bytes::copy_from_slice(&payload)));
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.waiting.ended.notify_one();
    }
}

/// The server's end of an [`Inlet`].
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: mpsc::UnboundedReceiver<Inbound>,
    current: Bytes,
    waiting: Arc<Waiting>,
}

impl Inbox {
    /// Waits until the stream has ended from the other side. Cancel-safe.
    pub(super) async fn closed(&self) {
        self.waiting.ended.notified().await;
        // For whoever asks again.
        self.waiting.ended.notify_one();
    }

    /// The next event; cancel-safe.
    pub(super) async fn next(&mut self) -> PeerEvent<'_> {
        match self.receiver.recv().await {
            None => PeerEvent::End,
            Some(Inbound::Message(message)) => {
                self.waiting.bytes.fetch_sub(weight(&message), Ordering::Relaxed);
                self.waiting.taken.notify_one();
                self.current = message;
                PeerEvent::Message(&self.current)
            }
            Some(Inbound::Pong(payload)) => {
                self.waiting.pongs.fetch_sub(1, Ordering::Relaxed);
                self.current = payload;
                PeerEvent::Pong(&self.current)
            }
        }
    }
}
