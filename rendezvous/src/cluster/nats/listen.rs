//! Hears the other nodes, tells them the news, and says every few seconds that this one lives.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Event, Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::is_recent;
use super::shared::{Shared, one};
use crate::clock::now;
use crate::cluster::message::{Announcement, News, announcements, everybody};
use crate::cluster::table::Sync;
use crate::node_id::NodeId;

/// How often a node says that it lives.
const DIGEST_EVERY: Duration = Duration::from_secs(5);
/// A random pause of up to so many milliseconds keeps nodes from doing the same thing at once.
const JITTER: u64 = 300;
/// Questions that are answered at once; further ones wait. Chosen for speed.
const ANSWERS: usize = 256;

/// The task that hears and tells.
pub(super) struct Listener {
    shared: Arc<Shared>,
    queued: mpsc::Receiver<News>,
    happened: mpsc::UnboundedReceiver<Event>,
    news: Subscriber,
    everybody: Subscriber,
    mine: Subscriber,
    answering: Arc<Semaphore>,
    tasks: JoinSet<()>,
    next_digest: Instant,
}

impl Listener {
    pub(super) async fn new(
        shared: Arc<Shared>,
        queued: mpsc::Receiver<News>,
        happened: mpsc::UnboundedReceiver<Event>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let news = shared.client.subscribe(announcements()).await?;
        let everybody = shared.client.subscribe(everybody()).await?;
        let mine = shared.client.subscribe(one(shared.me)).await?;
        Ok(Self {
            shared,
            queued,
            happened,
            news,
            everybody,
            mine,
            answering: Arc::new(Semaphore::new(ANSWERS)),
            tasks: JoinSet::new(),
            next_digest: Instant::now(),
        })
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            tokio::select! {
                Some(event) = self.happened.recv() => self.broker(&event),
                Some(news) = self.queued.recv() => self.shared.publish(news).await,
                () = sleep_until(self.next_digest) => self.say_alive().await,
                Some(message) = self.news.next() => self.heard(&message),
                Some(message) = self.mine.next() => self.asked(message).await,
                Some(message) = self.everybody.next() => self.asked(message).await,
                else => return,
            }
        }
    }

    fn broker(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("the cluster's broker is there");
                *self.shared.joined.lock() = Some(Instant::now());
                self.say_alive_soon();
                self.follow_tokens(0, None);
            }
            Event::Disconnected => {
                tracing::warn!("the cluster's broker is gone; this node goes on with what it has");
            }
            other => tracing::warn!(event = %other, "the cluster's broker"),
        }
    }

    fn say_alive_soon(&mut self) {
        let soon = Instant::now() + Duration::from_millis(rand::random_range(0..JITTER));
        self.next_digest = self.next_digest.min(soon);
    }

    async fn say_alive(&mut self) {
        self.next_digest = Instant::now() + DIGEST_EVERY;
        let now = now();
        let silent = self.shared.table.lock().silent(now);
        // Without a broker nobody is heard, and nobody is gone for that.
        if self.shared.connected() {
            silent.into_iter().for_each(|node| self.shared.is_gone(node));
        }
        self.shared.table.lock().sweep(self.shared.retention, now);
        let digest = self.shared.digest();
        self.shared.publish(News::Digest(digest)).await;
        self.follow_tokens(0, None);
    }

    fn heard(&mut self, message: &Message) {
        let shared = &self.shared;
        let Some(opened) = shared.sealer.open(message.subject.as_bytes(), &message.payload) else { return };
        let Ok(announcement) = serde_json::from_slice::<Announcement>(&opened.text) else { return };
        let (node, time) = (opened.sender, now());
        if !is_recent(announcement.at) {
            tracing::warn!(%node, "a node's message is dropped: it is old, or the clocks of the nodes differ by more than a minute");
            return;
        }
        if let News::Tokens { version } = announcement.news {
            return self.follow_tokens(version, None);
        }
        let Some(is_new) = shared.table.lock().hear(node, opened.counter, time) else { return };
        match announcement.news {
            News::Registered(claim) => shared.note(node, &claim, false),
            News::Gained(claim) => shared.note(node, &claim, true),
            News::Lost(claim) => shared.table.lock().lost(node, &claim, time),
            News::Gone => shared.is_gone(node),
            News::Tokens { .. } => {}
            News::Digest(digest) => {
                let same = shared.table.lock().digest(node, &digest);
                if same == Sync::Differs {
                    self.take_list(node);
                }
                if digest.tokens > 0 {
                    self.follow_tokens(digest.tokens, Some(node));
                }
            }
        }
        if is_new {
            tracing::info!(%node, "a node is heard for the first time");
            self.say_alive_soon();
        }
    }

    /// Asks a node for its list, unless that is under way.
    fn take_list(&mut self, node: NodeId) {
        if !self.shared.syncing.lock().insert(node) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            sleep(Duration::from_millis(rand::random_range(0..JITTER))).await;
            shared.take_list(node).await;
            shared.syncing.lock().remove(&node);
        });
    }

    /// Looks for the shared tokens of this version, which this node has; of any, if it is 0.
    fn follow_tokens(&mut self, version: u64, node: Option<NodeId>) {
        if self.shared.tokens.as_ref().is_none_or(|known| version > 0 && known.version() >= version) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move { shared.follow_tokens(version, node).await });
    }

    async fn asked(&mut self, message: Message) {
        let Ok(permit) = Arc::clone(&self.answering).acquire_owned().await else { return };
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            shared.answer(message).await;
            drop(permit);
        });
    }
}
