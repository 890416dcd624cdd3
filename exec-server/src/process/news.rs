//! Which processes of a session have something to tell its connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Process;

/// A queue of processes with unsent events; each stands in it at most once.
#[derive(Debug, Default)]
pub struct News {
    ready: Mutex<VecDeque<Arc<Process>>>,
    /// One of them has come to its end.
    end: AtomicBool,
    wake: Notify,
}

impl News {
    /// Puts a process at the end: one that has news and does not stand here, or one that was taken and is given back.
    pub fn push(&self, process: Arc<Process>) {
        self.ready.lock().push_back(process);
        self.wake.notify_one();
    }

    /// A process that is, or is about to be, in the queue has come to its end.
    pub(super) fn end(&self) {
        self.end.store(true, Ordering::Relaxed);
    }

    /// Whether one has come to its end since this was last asked: to be asked once for each look at the queue.
    pub fn take_end(&self) -> bool {
        self.end.swap(false, Ordering::Relaxed)
    }

    /// Takes the process that waits longest.
    pub fn pop(&self) -> Option<Arc<Process>> {
        self.ready.lock().pop_front()
    }

    /// Waits until something was pushed since the last wait.
    pub async fn pushed(&self) {
        self.wake.notified().await;
    }
}
