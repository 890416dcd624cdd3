//! A queue for one follower whose bound makes the reader of the socket wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Takes a lock; a panic elsewhere does not spoil what it guards, since every change is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        let mut state = lock(&self.state);
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
        lock(&self.state).ended = true;
        self.news.notify_one();
        self.room.notify_waiters();
    }

    /// The follower goes: the producer never waits for it again.
    pub(super) fn abandon(&self) {
        let mut state = lock(&self.state);
        state.abandoned = true;
        state.items = VecDeque::new();
        state.bytes = 0;
        drop(state);
        self.room.notify_waiters();
        self.news.notify_one();
    }

    /// Whether less than `bound` bytes wait.
    pub(super) fn fits(&self, bound: usize) -> bool {
        let state = lock(&self.state);
        state.abandoned || state.bytes < bound
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Fires when something was taken; to be created before [`Self::fits`] is asked.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// The next item; none after the end. Cancel-safe.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            {
                let mut state = lock(&self.state);
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
