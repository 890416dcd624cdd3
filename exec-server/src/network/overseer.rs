//! The overseer: answers questions about hosts and hears what was decided. It is the connection that has the session, while
//! there is one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use codex_exec_protocol::network::{Decision, PolicyDecisionParams, PolicyRequestParams};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Asks and tells a client.
#[async_trait]
pub trait Overseer: Send + Sync {
    /// The client's decision, if one comes within `patience`, and while the client is there.
    async fn ask(&self, question: PolicyRequestParams, patience: Duration) -> Option<Decision>;

    /// Reports a decision; waits while the client reads nothing.
    async fn tell(&self, report: PolicyDecisionParams);
}

/// What the proxies of one session share. Dropping it ends them.
pub struct SessionNetwork {
    overseer: Arc<OverseerSlot>,
    ended: watch::Sender<bool>,
}

/// The overseer that is there now, if there is one.
#[derive(Default)]
pub(super) struct OverseerSlot(Mutex<Option<Arc<dyn Overseer>>>);

impl Default for SessionNetwork {
    fn default() -> Self {
        Self { overseer: Arc::default(), ended: watch::Sender::new(false) }
    }
}

impl std::fmt::Debug for SessionNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionNetwork").finish_non_exhaustive()
    }
}

impl OverseerSlot {
    /// Who sits there now.
    pub(super) fn current(&self) -> Option<Arc<dyn Overseer>> {
        self.0.lock().clone()
    }
}

impl SessionNetwork {
    /// From now on this one is asked and told.
    pub fn oversee(&self, overseer: Arc<dyn Overseer>) {
        *self.overseer.0.lock() = Some(overseer);
    }

    /// It is gone. Another that came meanwhile stays.
    pub fn leave(&self, overseer: &Arc<dyn Overseer>) {
        let mut overseer_slot = self.overseer.0.lock();
        if overseer_slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, overseer)) {
            *overseer_slot = None;
        }
    }

    /// Ends every proxy that is open.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(super) fn overseer_slot(&self) -> Arc<OverseerSlot> {
        Arc::clone(&self.overseer)
    }

    /// Completes when the session is over.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.subscribe();
        async move {
            // An error means that the session is no more, too.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}
