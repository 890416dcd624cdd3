//! The tokens that all nodes share, as one of them has them.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use crate::cluster::message::List;
use crate::cluster::shared_tokens::{SharedTokens, SharedTokensError};
use crate::tokens::Grant;

/// Between two attempts to have the first list. Our own pace: nothing outside depends on it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The list in force, and the way to newer ones.
pub(super) struct Follower {
    pub(super) store: SharedTokens,
    list: Mutex<List>,
    /// One looks at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Follower {
    /// Waits for the first list: without it nobody could be let in, and executors would take a refusal for final.
    pub(super) async fn begin(store: SharedTokens) -> Result<Self, SharedTokensError> {
        let mut told = false;
        loop {
            match store.list().await {
                Ok(list) => {
                    list.grants()?;
                    return Ok(Self { store, list: Mutex::new(list), turn: tokio::sync::Mutex::default() });
                }
                Err(error) if error.may_pass() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "this node serves nobody before it has the shared tokens");
                    }
                    sleep(FIRST_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.list.lock().version
    }

    pub(super) fn list(&self) -> List {
        self.list.lock().clone()
    }

    /// Takes a newer list.
    pub(super) fn replace(&self, list: List) {
        *self.list.lock() = list;
    }

    /// What the list says. It was read once before it was taken.
    pub(super) fn grants(&self) -> Vec<Grant> {
        self.list.lock().grants().unwrap_or_default()
    }
}
