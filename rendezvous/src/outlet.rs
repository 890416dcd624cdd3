//! The queue of messages for one socket: bounded in bytes, with back-pressure, and with the reason for the socket's end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use codex_websocket::close;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, SetOnce};
use tokio::time::Instant;

use crate::limits::{FRAME_OVERHEAD, Limits};

/// Why the rendezvous closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closing {
    /// A newer registration or socket of the same environment took over.
    Superseded,
    /// The executor of this harness has gone.
    ExecutorGone,
    /// The program is ending.
    Draining,
    /// The socket took nothing for too long, or held others up.
    Slow,
    /// The sockets of this token have too much queued.
    OverBudget,
    /// Nothing came from the peer, not even a pong.
    Silent,
    /// The token was removed, or lost the environment.
    Revoked,
    /// A websocket message over the bound.
    TooBig,
    /// Bytes that are no websocket.
    Protocol,
    /// The peer closed, or its connection broke.
    PeerGone,
}

impl Closing {
    /// Code and reason of the close frame; `None` where no peer would read them.
    pub fn close_frame(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Superseded => (close::RESTART, codex_exec_protocol::registry::SUPERSEDED),
            Self::ExecutorGone => (close::RESTART, "the executor has gone"),
            Self::Draining => (close::RESTART, "the rendezvous restarts"),
            Self::Slow => (close::TRY_LATER, "too slow: the queue stayed full"),
            Self::OverBudget => (close::TRY_LATER, "the sockets of this token have too many bytes queued"),
            Self::Revoked => (close::POLICY, "the token was withdrawn"),
            Self::TooBig => (close::TOO_BIG, "message too big"),
            Self::Protocol => (close::PROTOCOL_ERROR, "not a websocket frame"),
            Self::Silent | Self::PeerGone => return None,
        })
    }

    /// One word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::ExecutorGone => "executor_gone",
            Self::Draining => "draining",
            Self::Slow => "slow",
            Self::OverBudget => "over_budget",
            Self::Silent => "silent",
            Self::Revoked => "revoked",
            Self::TooBig => "too_big",
            Self::Protocol => "protocol",
            Self::PeerGone => "peer_gone",
        }
    }
}

/// Bytes that all sockets of one token have queued.
#[derive(Debug)]
pub struct Budget {
    queued: AtomicUsize,
    bound: usize,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bound: usize) -> Self {
        Self { queued: AtomicUsize::new(0), bound }
    }

    /// How many bytes wait to be sent.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

/// A frame did not go into the queue.
#[derive(Debug, PartialEq, Eq)]
pub enum PushError {
    /// No room; here it is back.
    Full(Bytes),
    /// The socket is on its way out.
    Closed,
}

/// The sending side of one socket, shared by all who write to it.
#[derive(Debug)]
pub struct Outlet {
    queue: Mutex<Queue>,
    news: Notify,
    room: Semaphore,
    closing: SetOnce<Closing>,
    budget: Arc<Budget>,
    bound: usize,
    hold: Duration,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Queued>,
    /// The pong that is owed; a newer ping replaces an unanswered one, as RFC 6455 (5.5.3) allows.
    pong: Option<Bytes>,
    ping: bool,
    /// Bytes in `frames` and on their way out.
    bytes: usize,
    /// When the socket last took a byte, or last had none to take.
    progress: Instant,
    credit: Duration,
    credited: Instant,
}

/// A frame in the queue, with its share of the bound.
#[derive(Debug)]
pub struct Queued {
    /// The relay frame, as it came.
    pub frame: Bytes,
    weight: usize,
}

/// What the socket is to write next.
#[derive(Debug)]
pub enum Next {
    /// A relay frame, to go as a binary message.
    Frame(Queued),
    /// An answer to a ping.
    Pong(Bytes),
    /// A sign of life, asking for one.
    Ping,
}

impl Outlet {
    /// An empty queue with the bounds of `limits`.
    pub fn new(limits: &Limits, budget: Arc<Budget>) -> Arc<Self> {
        let bound = limits.queues.queue_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let now = Instant::now();
        let queue = Queue {
            frames: VecDeque::new(),
            pong: None,
            ping: false,
            bytes: 0,
            progress: now,
            credit: limits.queues.hold,
            credited: now,
        };
        Arc::new(Self {
            queue: Mutex::new(queue),
            news: Notify::new(),
            room: Semaphore::new(bound),
            closing: SetOnce::new(),
            budget,
            bound,
            hold: limits.queues.hold,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// A message over the bound fits into an empty queue.
    fn weight(&self, frame: &Bytes) -> usize {
        (frame.len() + FRAME_OVERHEAD).min(self.bound)
    }

    /// Queues a frame when there is room.
    ///
    /// # Errors
    /// Without room, and when the socket is closing.
    pub fn try_push(&self, frame: Bytes) -> Result<(), PushError> {
        let weight = self.weight(&frame);
        // The weight is at most `bound`, which fits.
        match self.room.try_acquire_many(weight as u32) {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(PushError::Full(frame)),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(PushError::Closed),
        }
        self.enqueue(frame, weight)
    }

    /// Queues a frame once there is room; waiting callers are served in order.
    ///
    /// # Errors
    /// When the socket closes.
    pub async fn push(&self, frame: Bytes) -> Result<(), PushError> {
        let weight = self.weight(&frame);
        self.room.acquire_many(weight as u32).await.map_err(|_| PushError::Closed)?.forget();
        self.enqueue(frame, weight)
    }

    /// Queues a frame of our own, whatever the bound; the callers bound how many there are.
    pub fn push_control(&self, frame: Bytes) {
        let _ = self.enqueue(frame, 0);
    }

    fn enqueue(&self, frame: Bytes, weight: usize) -> Result<(), PushError> {
        let queued = self.budget.queued.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        let alone = {
            let mut queue = self.queue();
            let alone = queue.bytes == 0;
            if alone {
                queue.progress = Instant::now();
            }
            queue.bytes += frame.len();
            queue.frames.push_back(Queued { frame, weight });
            alone
        };
        if queued > self.budget.bound && !alone {
            self.close(Closing::OverBudget);
            return Err(PushError::Closed);
        }
        self.news.notify_one();
        Ok(())
    }

    /// Has a ping answered.
    pub fn pong(&self, payload: Bytes) {
        self.queue().pong = Some(payload);
        self.news.notify_one();
    }

    /// Has the writer send a ping as soon as it can.
    pub fn ping(&self) {
        self.queue().ping = true;
        self.news.notify_one();
    }

    /// Takes what is to be written next, if anything.
    pub fn try_next(&self) -> Option<Next> {
        let mut queue = self.queue();
        if let Some(payload) = queue.pong.take() {
            return Some(Next::Pong(payload));
        }
        if std::mem::take(&mut queue.ping) {
            return Some(Next::Ping);
        }
        let next = queue.frames.pop_front().map(Next::Frame);
        if next.is_none() {
            // An idle socket keeps no memory for its busier days.
            queue.frames.shrink_to(4);
        }
        next
    }

    /// Waits until there is something to write.
    pub async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.news.notified().await;
        }
    }

    /// Gives back the room of frames that are written out.
    pub fn written(&self, done: &Done) {
        if done.bytes > 0 {
            self.budget.queued.fetch_sub(done.bytes, Ordering::Relaxed);
            self.room.add_permits(done.weight);
        }
        let mut queue = self.queue();
        queue.bytes -= done.bytes;
        queue.progress = Instant::now();
    }

    /// Closes the socket; the first reason counts.
    pub fn close(&self, closing: Closing) {
        if self.closing.set(closing).is_ok() {
            self.room.close();
        }
    }

    /// Drops the queue of a socket that will not write any more.
    pub fn clear(&self) {
        let forgotten: VecDeque<_> = std::mem::take(&mut self.queue().frames);
        let bytes = forgotten.iter().map(|queued| queued.frame.len()).sum();
        self.written(&Done { bytes, weight: 0 });
    }

    /// Waits for the end.
    pub async fn closed(&self) -> Closing {
        *self.closing.wait().await
    }

    /// Whether the socket is on its way out.
    pub fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// When the socket last took something.
    pub fn progress(&self) -> Instant {
        self.queue().progress
    }

    /// How much longer this socket may hold others up.
    pub fn credit(&self) -> Duration {
        let mut queue = self.queue();
        let now = Instant::now();
        let earned = now.saturating_duration_since(queue.credited) / 4;
        queue.credit = self.hold.min(queue.credit + earned);
        queue.credited = now;
        queue.credit
    }

    /// Counts time for which this socket held others up.
    pub fn held_others(&self, time: Duration) {
        let mut queue = self.queue();
        queue.credit = queue.credit.saturating_sub(time);
        queue.credited = Instant::now();
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let left = self.queue().bytes;
        self.budget.queued.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Frames that are written out, to be given back to their outlet.
#[derive(Debug, Default)]
pub struct Done {
    bytes: usize,
    weight: usize,
}

impl Done {
    /// Counts a frame that was sent.
    pub fn add(&mut self, bytes: usize, weight: usize) {
        self.bytes += bytes;
        self.weight += weight;
    }
}

impl Queued {
    /// Takes it apart: the message, and its share of the bound.
    pub fn into_parts(self) -> (Bytes, usize) {
        (self.frame, self.weight)
    }
}

#[cfg(test)]
mod tests;
