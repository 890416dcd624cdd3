//! Keeps the tokens that all nodes share up to date at one of them.

use super::ask::{Asked, LIST_TIME};
use super::follower::Follower;
use super::shared::Shared;
use crate::cluster::message::{About, Answer, List};
use crate::node_id::NodeId;

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
        follower.replace(list);
        if let Some(owner) = self.owner() {
            owner.share_tokens(grants);
        }
    }
}
