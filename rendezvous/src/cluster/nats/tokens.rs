//! Keeps the tokens that all nodes share up to date at one of them.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::ask::{Asked, LIST_TIME};
use super::shared::Shared;
use crate::cluster::message::{About, Answer, List};
use crate::cluster::shared_tokens::{SharedTokens, SharedTokensError};
use crate::node_id::NodeId;
use crate::tokens::Grant;

/// Between two attempts to have the first list. Our own pace: nothing outside depends on it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The list in force, and the way to newer ones.
pub(super) struct Follower {
    store: SharedTokens,
    list: Mutex<List>,
    /// One looks at a time.
    turn: tokio::sync::Mutex<()>,
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

    /// What the list says. It was read once before it was taken.
    pub(super) fn grants(&self) -> Vec<Grant> {
        self.list.lock().grants().unwrap_or_default()
    }
}

impl Shared {
    /// Looks for tokens of at least this version, at the broker and then at the node that has told of it.
    pub(super) async fn follow_tokens(&self, version: u64, node: Option<NodeId>) {
        let Some(follower) = &self.tokens else { return };
        let _turn = match version {
            // Another look is under way.
            0 => match follower.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return,
            },
            _ => follower.turn.lock().await,
        };
        if !self.connected() || (version > 0 && follower.version() >= version) {
            return;
        }
        match follower.store.list().await {
            Ok(list) => self.take_tokens(follower, list),
            Err(error) => tracing::warn!(%error, "the shared tokens stay as they are"),
        }
        // A broker that shows an old list is not believed.
        if let Some(node) = node.filter(|_| follower.version() < version)
            && let Asked::Answered(_, Answer::Tokens(list)) =
                self.ask_one(node, About::Tokens, LIST_TIME).await
        {
            self.take_tokens(follower, list);
        }
    }

    fn take_tokens(&self, follower: &Follower, list: List) {
        let known = follower.version();
        if list.version < known {
            tracing::warn!("the broker shows an older list of shared tokens than it did; it is not taken");
        }
        if list.version <= known {
            return;
        }
        let grants = match list.grants() {
            Ok(grants) => grants,
            Err(error) => {
                return tracing::warn!(%error, "the shared tokens can't be read, and stay as they are");
            }
        };
        tracing::info!(tokens = grants.len(), "the shared tokens have changed");
        *follower.list.lock() = list;
        if let Some(owner) = self.owner() {
            owner.share_tokens(grants);
        }
    }
}
