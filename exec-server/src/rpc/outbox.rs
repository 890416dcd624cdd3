//! What waits to be sent to a peer: answers and notifications, already encoded, within a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use codex_exec_protocol::{Method, Notification, RequestId, RpcError, WireEncode, envelope};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::poured::Poured;
use crate::Limits;
use crate::transport::{FrameBuffer, Framing};

/// Small messages share a frame buffer up to this size (bytes), so that one write takes them all. Chosen for speed.
const SHARED_BUFFER: usize = 64 << 10;
/// What an answer that is encoded while it is sent counts as in the queue, in bytes: its blocks. Chosen for speed.
const POURED_BYTES: usize = 256 << 10;
/// Control frames between two fragments at most, in bytes. Chosen for speed.
const MOST_BETWEEN: usize = 4 << 10;

/// The queue of one connection. Messages leave in the order they were put in.
#[derive(Debug)]
pub struct Outbox {
    framing: Framing,
    queue: Mutex<Queue>,
    /// The writer should look.
    wake: Notify,
    max_bytes: usize,
    turns: Arc<Turns>,
    /// Bytes that the socket has taken so far: the peer's only sign of life while we don't read.
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Queued>,
    bytes: usize,
    closed: bool,
    /// Control frames that go between the fragments of the message that is being sent, while there is one.
    between: Option<FrameBuffer>,
}

/// Something on its way to the socket. Dropping it lets go of what its answer held.
pub struct Queued {
    /// What is to be sent.
    pub message: Message,
    _hold: Option<Box<dyn Send>>,
}

/// What is to be sent.
#[derive(Debug)]
pub enum Message {
    /// Encoded messages.
    Encoded(FrameBuffer),
    /// One that is encoded while it is sent.
    Poured(Box<Poured>),
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("message", &self.message).finish_non_exhaustive()
    }
}

impl Queued {
    /// The bytes that it counts as: those that are in memory.
    pub fn bytes(&self) -> usize {
        match &self.message {
            Message::Encoded(frame) => frame.len(),
            Message::Poured(_) => POURED_BYTES,
        }
    }

    /// Where another small message may be appended.
    fn open(&mut self) -> Option<&mut FrameBuffer> {
        match &mut self.message {
            Message::Encoded(frame) if frame.len() < SHARED_BUFFER => Some(frame),
            _ => None,
        }
    }
}

/// The requests in flight, locked apart from the queue.
#[derive(Debug)]
struct Turns {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    max_requests: usize,
    max_bytes: usize,
    /// There may be room again.
    room: Notify,
}

impl Outbox {
    /// An outbox with nothing in it.
    pub fn new(framing: Framing, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            framing,
            queue: Mutex::default(),
            wake: Notify::new(),
            max_bytes: limits.connection.outgoing_bytes,
            turns: Arc::new(Turns {
                requests: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                max_requests: limits.connection.requests_in_flight,
                max_bytes: limits.connection.in_flight_bytes,
                room: Notify::new(),
            }),
            written: AtomicU64::new(0),
        })
    }

    /// How messages are told apart on this connection.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Appends one message or control frame; how many bytes were appended.
    pub fn put(&self, encode: impl FnOnce(&mut FrameBuffer)) -> usize {
        let mut queue = self.lock();
        if queue.closed {
            return 0;
        }
        let added = match queue.frames.back_mut().and_then(Queued::open) {
            Some(frame) => {
                let before = frame.len();
                encode(frame);
                frame.len() - before
            }
            None => {
                let mut frame = FrameBuffer::new(self.framing);
                encode(&mut frame);
                let added = frame.len();
                queue.frames.push_back(Queued { message: Message::Encoded(frame), _hold: None });
                added
            }
        };
        queue.bytes += added;
        drop(queue);
        self.wake.notify_one();
        added
    }

    /// Appends a buffer that was encoded elsewhere, without copying it. `hold` is dropped once the socket took it all.
    pub fn put_frame(&self, frame: FrameBuffer, hold: impl Send + 'static) {
        self.push(Queued { message: Message::Encoded(frame), _hold: Some(Box::new(hold)) });
    }

    /// Appends an answer that is encoded while it is sent; where it is longer than a stream carries, a refusal. `hold` is
    /// dropped once the socket took it all.
    pub fn pour(&self, id: &RequestId, poured: Poured, hold: impl Send + 'static) {
        match self.framing.longest_message() {
            Some(longest) if poured.length() > longest => {
                let mut frame = FrameBuffer::new(self.framing);
                frame.message(256, |out| envelope::failure(id, &too_long(poured.length(), longest), out));
                self.put_frame(frame, hold);
            }
            _ => {
                self.push(Queued { message: Message::Poured(Box::new(poured)), _hold: Some(Box::new(hold)) })
            }
        }
    }

    fn push(&self, queued: Queued) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.bytes += queued.bytes();
        queue.frames.push_back(queued);
        drop(queue);
        self.wake.notify_one();
    }

    /// Answers a request.
    pub fn answer<M: Method>(&self, id: &RequestId, result: Result<M::Result, RpcError>) {
        self.answer_any(id, result);
    }

    /// Answers a request with anything that encodes as the result should; the answer's bytes.
    pub fn answer_any(&self, id: &RequestId, result: Result<impl WireEncode, RpcError>) -> usize {
        self.put(|frame| encode_answer(frame, id, result))
    }

    /// Sends a notification.
    pub fn notify<N: Notification>(&self, params: &N::Params) {
        self.put(|frame| frame.message(256, |out| envelope::notification::<N>(params, out)));
    }

    /// Answers a request; the answer's bytes. `hold` is dropped once the socket took the answer.
    pub fn answer_holding(
        &self,
        id: &RequestId,
        result: Result<impl WireEncode, RpcError>,
        hold: impl Send + 'static,
    ) -> usize {
        let mut frame = FrameBuffer::new(self.framing);
        encode_answer(&mut frame, id, result);
        let bytes = frame.len();
        self.put_frame(frame, hold);
        bytes
    }

    /// Appends a control frame: to the others, or, while a large message is being sent, between its fragments.
    pub fn put_control(&self, encode: impl FnOnce(&mut FrameBuffer)) {
        let mut queue = self.lock();
        match &mut queue.between {
            // A peer that pings faster than it reads gets the rest of the pongs in order.
            Some(between) if between.len() < MOST_BETWEEN => {
                encode(between);
                // The writer may be waiting for the rest of the message.
                drop(queue);
                self.wake.notify_one();
            }
            _ => {
                drop(queue);
                self.put(encode);
            }
        }
    }

    /// Control frames to send before the next fragment; `within` tells whether one follows.
    pub fn between(&self, within: bool) -> FrameBuffer {
        let next = within.then(|| FrameBuffer::new(self.framing));
        let frames = std::mem::replace(&mut self.lock().between, next);
        frames.unwrap_or_else(|| FrameBuffer::new(self.framing))
    }

    /// Takes the next buffer for the socket, to be dropped once it is sent.
    pub fn take(&self) -> Option<Queued> {
        self.lock().frames.pop_front()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }

    /// The socket took `bytes` of a buffer that [`Self::take`] gave.
    pub fn taken(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        drop(queue);
        self.turns.room.notify_waiters();
    }

    /// The socket took bytes.
    pub fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that the socket took, ever.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lets the writer look.
    pub fn look(&self) {
        self.wake.notify_one();
    }

    /// Waits until something is put in after the last wait.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Drops everything that comes from now on.
    pub fn close(&self) {
        self.lock().closed = true;
        self.turns.room.notify_waiters();
        self.wake.notify_one();
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether everything was taken and nothing more can come.
    pub fn is_finished(&self) -> bool {
        let queue = self.lock();
        queue.closed && queue.frames.is_empty()
    }

    fn has_room(&self) -> bool {
        let queue = self.lock();
        queue.closed || queue.bytes < self.max_bytes
    }

    /// Whether another request may begin now.
    pub fn has_turn(&self) -> bool {
        self.has_room() && !self.is_overasked()
    }

    /// Whether requests in flight, which may wait for a program, keep further ones from beginning.
    pub fn is_overasked(&self) -> bool {
        self.turns.requests.load(Ordering::Relaxed) >= self.turns.max_requests
            || self.turns.bytes.load(Ordering::Relaxed) >= self.turns.max_bytes
    }

    /// Waits until fewer bytes than the bound wait for the socket.
    pub async fn room(&self) {
        self.until(Self::has_room).await;
    }

    /// Waits until another request may begin.
    pub async fn turn(&self) {
        self.until(Self::has_turn).await;
    }

    async fn until(&self, reached: fn(&Self) -> bool) {
        loop {
            let changed = self.turns.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    /// Counts a request of `bytes` bytes as in flight until the returned value is dropped.
    pub fn begin(&self, bytes: usize) -> InFlight {
        self.turns.requests.fetch_add(1, Ordering::Relaxed);
        self.turns.bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlight { turns: Arc::clone(&self.turns), bytes }
    }
}

/// Encodes an answer.
fn encode_answer(frame: &mut FrameBuffer, id: &RequestId, result: Result<impl WireEncode, RpcError>) {
    match result {
        Ok(result) => {
            let mut length = 0;
            let before = frame.len();
            frame.message(result.expected_len() + 64, |out| {
                let start = out.len();
                envelope::answer(id, &result, out);
                length = out.len() - start;
            });
            if let Some(longest) = frame.framing().longest_message()
                && length > longest
            {
                frame.truncate(before);
                frame.message(256, |out| envelope::failure(id, &too_long(length, longest), out));
            }
        }
        Err(error) => frame.message(256, |out| envelope::failure(id, &error, out)),
    }
}

fn too_long(length: usize, longest: usize) -> RpcError {
    RpcError::internal(format!(
        "the answer of {length} bytes is longer than the {longest} that a relay carries; ask for it in parts"
    ))
}

/// A request that has begun and is not answered yet.
#[derive(Debug)]
pub struct InFlight {
    turns: Arc<Turns>,
    bytes: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.turns.requests.fetch_sub(1, Ordering::Relaxed);
        self.turns.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.turns.room.notify_waiters();
    }
}
