//! What waits to be sent to a peer: answers and notifications, already encoded, within a bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codex_exec_protocol::{Method, Notification, RequestId, RpcError, WireEncode, envelope};
use tokio::sync::Notify;

use crate::Limits;
use crate::transport::{FrameBuffer, Framing};

/// Small messages share a frame buffer up to this size (bytes), so that one write takes them all.
const SHARED_BUFFER: usize = 64 << 10;

/// The queue of one connection. Messages leave in the order they were put in.
#[derive(Debug)]
pub struct Outbox {
    framing: Framing,
    queue: Mutex<Queue>,
    /// The writer should look.
    wake: Notify,
    /// There may be room again.
    room: Notify,
    max_bytes: usize,
    in_flight: AtomicUsize,
    in_flight_bytes: AtomicUsize,
    max_in_flight: usize,
    max_in_flight_bytes: usize,
    /// Bytes that the socket took, ever: the peer's only sign of life while we don't read.
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<FrameBuffer>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    /// An empty queue.
    pub fn new(framing: Framing, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            framing,
            queue: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            max_bytes: limits.outgoing_bytes,
            in_flight: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
            max_in_flight: limits.requests_in_flight,
            max_in_flight_bytes: limits.in_flight_bytes,
            written: AtomicU64::new(0),
        })
    }

    /// How messages are told apart on this connection.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends one message or control frame.
    pub fn put(&self, encode: impl FnOnce(&mut FrameBuffer)) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.frames.back().is_none_or(|frame| frame.bytes().len() >= SHARED_BUFFER) {
            queue.frames.push_back(FrameBuffer::new(self.framing));
        }
        let Some(frame) = queue.frames.back_mut() else { return };
        let before = frame.bytes().len();
        encode(frame);
        let added = frame.bytes().len() - before;
        queue.bytes += added;
        drop(queue);
        self.wake.notify_one();
    }

    /// Appends a buffer that was encoded elsewhere, without copying it.
    pub fn put_frame(&self, frame: FrameBuffer) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.bytes += frame.bytes().len();
        queue.frames.push_back(frame);
        drop(queue);
        self.wake.notify_one();
    }

    /// Answers a request.
    pub fn answer<M: Method>(&self, id: &RequestId, result: Result<M::Result, RpcError>) {
        self.answer_any(id, result);
    }

    /// Answers a request with anything that encodes as the result should.
    pub fn answer_any(&self, id: &RequestId, result: Result<impl WireEncode, RpcError>) {
        self.put(|frame| encode_answer(frame, id, result));
    }

    /// Sends a notification.
    pub fn notify<N: Notification>(&self, params: &N::Params) {
        self.put(|frame| frame.message(256, |out| envelope::notification::<N>(params, out)));
    }

    /// Takes the next buffer for the socket.
    pub fn take(&self) -> Option<FrameBuffer> {
        self.lock().frames.pop_front()
    }

    /// The socket took `bytes` of a buffer that [`Self::take`] gave.
    pub fn taken(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        drop(queue);
        self.room.notify_waiters();
    }

    /// The socket took bytes.
    pub fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that the socket took, ever.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until something was put in since the last wait.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Drops everything that comes from now on.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.notify_waiters();
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
        self.has_room()
            && self.in_flight.load(Ordering::Relaxed) < self.max_in_flight
            && self.in_flight_bytes.load(Ordering::Relaxed) < self.max_in_flight_bytes
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
            let changed = self.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    /// Counts a request of `bytes` bytes as in flight until the returned value is dropped.
    pub fn begin(self: &Arc<Self>, bytes: usize) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlight { outbox: Arc::clone(self), bytes }
    }
}

/// Encodes an answer.
pub(crate) fn encode_answer(
    frame: &mut FrameBuffer,
    id: &RequestId,
    result: Result<impl WireEncode, RpcError>,
) {
    match result {
        Ok(result) => {
            let mut length = 0;
            let before = frame.len();
            frame.message(result.expected_len() + 64, |out| {
                let start = out.len();
                envelope::answer(id, &result, out);
                length = out.len() - start;
            });
            if let Framing::Stream { longest_message } = frame.framing()
                && length > longest_message as usize
            {
                frame.truncate(before);
                let error = RpcError::internal(format!(
                    "the answer of {length} bytes is longer than the {longest_message} that a relay carries; \
                     ask for it in parts"
                ));
                frame.message(256, |out| envelope::failure(id, &error, out));
            }
        }
        Err(error) => frame.message(256, |out| envelope::failure(id, &error, out)),
    }
}

/// A request that has begun and is not answered yet.
#[derive(Debug)]
pub struct InFlight {
    outbox: Arc<Outbox>,
    bytes: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.outbox.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.outbox.in_flight_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.outbox.room.notify_waiters();
    }
}
