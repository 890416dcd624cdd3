//! A queue for one follower whose bound makes the reader of the socket wait, and what is queued for whom.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::order::Follow;
use crate::environment::{BodyError, ProcessEvent};
use crate::protocol::Seq;
use crate::protocol::http::BodyDeltaParams;
use crate::protocol::process::{ExitedParams, OutputParams, ReadResult};

/// One producer (the driver), one follower.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    news: Notify,
    room: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Nothing more will be pushed.
    ended: bool,
    /// The follower is gone; what is pushed is dropped.
    abandoned: bool,
}

impl<T> Inbox<T> {
    pub(super) const fn new() -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, ended: false, abandoned: false };
        Self { state: Mutex::new(state), news: Notify::const_new(), room: Notify::const_new() }
    }

    /// Appends; the caller then waits for [`Self::fits`].
    pub(super) fn push(&self, item: T, weight: usize) {
        let mut state = self.state.lock();
        if state.ended || state.abandoned {
            return;
        }
        state.bytes += weight;
        state.items.push_back((item, weight));
        drop(state);
        self.news.notify_one();
    }

    /// After what is queued, [`Self::next`] returns none.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.news.notify_one();
        self.room.notify_waiters();
    }

    /// The follower goes: the producer never waits for it again.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.abandoned = true;
        state.items = VecDeque::new();
        state.bytes = 0;
        drop(state);
        self.room.notify_waiters();
        self.news.notify_one();
    }

    /// Whether less than `bound` bytes wait.
    pub(super) fn fits(&self, bound: usize) -> bool {
        let state = self.state.lock();
        state.abandoned || state.bytes < bound
    }

    /// Bytes that have come and were not taken yet.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Fires when something was taken; to be created before [`Self::fits`] is asked.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// The next item; none after the end. Cancel-safe.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some((item, weight)) = state.items.pop_front() {
                    state.bytes -= weight;
                    drop(state);
                    self.room.notify_waiters();
                    return Some(item);
                }
                if state.ended || state.abandoned {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }
}

/// The driver's end of a process's events.
#[derive(Debug)]
pub(super) struct ProcessInbox {
    pub(super) queue: Inbox<ProcessEvent>,
    follow: Mutex<Follow>,
}

impl ProcessInbox {
    pub(super) fn new() -> Self {
        Self { queue: Inbox::new(), follow: Mutex::new(Follow::default()) }
    }

    /// Where a recovery reads from; none when everything was seen.
    pub(super) fn recover_after(&self) -> Option<Seq> {
        let follow = self.follow.lock();
        (!follow.is_closed()).then(|| follow.published())
    }

    pub(super) fn output(&self, output: OutputParams, held_bytes: usize) {
        let event = ProcessEvent::Output { stream: output.stream, bytes: output.chunk.0 };
        self.feed(|follow, out| follow.accept(output.seq, event, held_bytes, out));
    }

    pub(super) fn exited(&self, exited: ExitedParams, held_bytes: usize) {
        let event = ProcessEvent::Exited { code: exited.exit_code, details: exited.exit };
        self.feed(|follow, out| follow.accept(exited.seq, event, held_bytes, out));
    }

    pub(super) fn closed(&self, seq: Seq, held_bytes: usize) {
        self.feed(|follow, out| follow.accept(seq, ProcessEvent::Closed, held_bytes, out));
    }

    pub(super) fn recovered(&self, read: ReadResult) {
        self.feed(|follow, out| follow.recover(read, out));
    }

    /// Nothing more is known of it.
    pub(super) fn disconnected(&self, reason: String) {
        let event = ProcessEvent::Disconnected { reason };
        self.queue.push(event, 64);
        self.queue.end();
    }

    /// The order of the queue is the order of `follow`, whose lock is therefore held while pushing.
    fn feed(&self, step: impl FnOnce(&mut Follow, &mut Vec<ProcessEvent>)) {
        let mut follow = self.follow.lock();
        let mut ready = Vec::new();
        step(&mut follow, &mut ready);
        for event in ready {
            let weight = event.weight();
            self.queue.push(event, weight);
        }
        if follow.is_closed() {
            self.queue.end();
        }
    }
}

/// What arrives of a body.
pub(super) type Piece = Result<Vec<u8>, BodyError>;

/// The driver's end of a body.
#[derive(Debug)]
pub(super) struct BodyInbox {
    pub(super) queue: Inbox<Piece>,
    expected: Mutex<Seq>,
}

impl BodyInbox {
    pub(super) fn new() -> Self {
        Self { queue: Inbox::new(), expected: Mutex::new(Seq::FIRST) }
    }

    /// Takes a delta; true when it was the last.
    pub(super) fn accept(&self, delta: BodyDeltaParams) -> bool {
        let mut expected = self.expected.lock();
        if delta.seq != *expected {
            let error = format!("piece {} came where piece {} was due", delta.seq, *expected);
            self.fail(error);
            return true;
        }
        *expected = expected.next();
        if !delta.delta.0.is_empty() {
            let weight = delta.delta.0.len();
            self.queue.push(Ok(delta.delta.0), weight);
        }
        match (delta.done, delta.error) {
            (true, Some(error)) => self.fail(error),
            (true, None) => self.queue.end(),
            (false, _) => return false,
        }
        true
    }

    /// Nothing more can come.
    pub(super) fn fail(&self, reason: String) {
        self.queue.push(Err(BodyError(reason)), 64);
        self.queue.end();
    }
}
