//! What the tasks of one node share: its connection, its table, and what it tells.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::connection::State;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

use super::follower::Follower;
use crate::clock::now;
use crate::cluster::directory::Owner;
use crate::cluster::message::{Announcement, Claim, Digest, News, SUBJECT, announcements, milliseconds};
use crate::cluster::seal::Sealer;
use crate::cluster::table::{Table, Verdict};
use crate::node_id::NodeId;

/// For so long after the broker came, what nobody knows may only be unknown because this node has heard nobody.
const SETTLING: Duration = Duration::from_secs(7);

/// The subject of questions to one node.
pub(super) fn one(node: NodeId) -> String {
    format!("{SUBJECT}.node.{node}")
}

/// What the tasks of a node share.
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) url: Url,
    pub(super) client: async_nats::Client,
    pub(super) sealer: Arc<Sealer>,
    /// The tokens that all nodes share, if they do.
    pub(super) tokens: Option<Follower>,
    pub(super) table: Mutex<Table>,
    pub(super) owner: Mutex<Option<Weak<dyn Owner>>>,
    pub(super) outgoing: mpsc::Sender<News>,
    pub(super) leaving: AtomicBool,
    /// When the broker was last reached anew.
    pub(super) joined: Mutex<Option<Instant>>,
    /// Nodes whose lists are being asked for.
    pub(super) syncing: Mutex<HashSet<NodeId>>,
    /// How long an environment is remembered that is away.
    pub(super) retention: Duration,
}

impl Shared {
    pub(super) fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(super) fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.owner.lock().as_ref().and_then(Weak::upgrade)
    }

    /// Queues news; what finds no room is made good by the next digest.
    pub(super) fn tell(&self, news: News) {
        if self.outgoing.try_send(news).is_err() {
            tracing::warn!("too many announcements wait for the broker; some are dropped");
        }
    }

    pub(super) fn digest(&self) -> Digest {
        let levels = self.owner().map(|owner| owner.levels()).unwrap_or_default();
        Digest {
            tally: self.table.lock().tally(self.me),
            url: self.url.to_string(),
            leaving: self.leaving.load(Ordering::Relaxed),
            levels,
            tokens: self.tokens.as_ref().map_or(0, Follower::version),
        }
    }

    /// Takes the claim of another node into the table, and gives up what it replaces here.
    pub(super) fn note(&self, node: NodeId, claim: &Claim, attached: bool) {
        let verdict = self.table.lock().note(node, claim, attached, now());
        match verdict {
            Verdict::Noted => {}
            Verdict::Supersedes => {
                if let Some(owner) = self.owner() {
                    owner.superseded(&claim.environment, &claim.registration, claim.generation);
                }
            }
            // Its node has not heard of the newer registration.
            Verdict::Outdated(newer) => self.tell(News::Registered(newer)),
        }
    }

    /// Whether this node has had the time to hear the others.
    pub(super) fn settled(&self) -> bool {
        self.joined.lock().is_some_and(|joined| joined.elapsed() > SETTLING)
    }

    /// The broker says that a node does not listen any more.
    pub(super) fn is_gone(&self, node: NodeId) {
        if self.table.lock().forget(node, now()) {
            tracing::info!(%node, "a node is gone");
        }
    }

    /// Tells all. Without a broker it is dropped: it would be old when the broker comes.
    pub(super) async fn publish(&self, news: News) {
        if !self.connected() {
            return;
        }
        let subject = announcements();
        let announcement = Announcement { at: milliseconds(now()), news };
        let Ok(text) = serde_json::to_vec(&announcement) else { return };
        let Some(sealed) = self.sealer.seal(subject.as_bytes(), &text) else { return };
        if let Err(error) = self.client.publish(subject, sealed.into()).await {
            tracing::debug!(%error, "an announcement does not go out");
        }
    }
}
