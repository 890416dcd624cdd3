//! Which processes of a session have something to tell its connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Process;

/// A queue of processes with unsent events; each stands in it at most once.
#[derive(Debug, Default)]
pub struct News {
    ready: Mutex<VecDeque<Arc<Process>>>,
    wake: Notify,
}

impl News {
    /// Puts a process at the end. The caller keeps it from standing here twice.
    pub(super) fn push(&self, process: Arc<Process>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(process);
        self.wake.notify_one();
    }

    /// Takes the process that waits longest.
    pub fn pop(&self) -> Option<Arc<Process>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Waits until something was pushed since the last wait.
    pub async fn pushed(&self) {
        self.wake.notified().await;
    }
}
