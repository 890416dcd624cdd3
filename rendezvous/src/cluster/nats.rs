//! The directory of nodes that find each other over NATS. Core NATS only: nothing is stored there, and what gets lost
//! is made good by the next digest.

mod ask;
mod follower;
mod listen;
mod shared;
mod tokens;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use codex_exec_protocol::registry::PublicKey;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;

use self::follower::Follower;
use self::shared::Shared;
use super::connection::{self, BrokerError};
use super::directory::{ClusterConfig, Directory, Elsewhere, Health, NodeStatus, Owner, Place};
use super::message::{Claim, News};
use super::seal::Sealer;
use super::secret::ClusterSecrets;
use super::shared_tokens::{SharedTokens, SharedTokensError};
use super::table::Table;
use crate::clock::now;
use crate::node_id::NodeId;
use crate::registry::{NoOffer, Presented};
use crate::switch::Load;
use crate::tokens::Grant;

/// Announcements on their way to the broker. More are dropped, and the next digest makes good for them.
/// Chosen for speed.
const ANNOUNCEMENTS: usize = 64 << 10;
/// How often the broker is asked whether it lives.
const BROKER_PING: Duration = Duration::from_secs(2);

/// One node among others.
pub struct Nats {
    shared: Arc<Shared>,
    listener: Mutex<Option<listen::Listener>>,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("me", &self.shared.me).finish_non_exhaustive()
    }
}

impl Nats {
    /// Begins to look for the broker, for the node at this address. The broker need not be there yet, unless the nodes share their
    /// tokens: those are waited for. Nothing is heard before [`Self::serve`].
    ///
    /// # Errors
    /// When an address or a certificate can't be used, or shared tokens can't be had however long one waits.
    pub async fn join(
        config: &ClusterConfig,
        url: Url,
        retention: Duration,
    ) -> Result<Self, SharedTokensError> {
        let addresses = connection::addresses(config)?;
        let me = NodeId::random();
        let (events, happened) = mpsc::unbounded_channel();
        let options = connection::options(config)
            .await?
            .retry_on_initial_connect()
            .ping_interval(BROKER_PING)
            .event_callback(move |event| {
                let _ = events.send(event);
                std::future::ready(())
            });
        let client = options.connect(addresses).await.map_err(BrokerError::from)?;
        let sealer = Arc::new(Sealer::new(me, &config.secrets));
        let tokens = match config.shared_tokens {
            true => Some(Follower::begin(SharedTokens::over(client.clone(), Arc::clone(&sealer))).await?),
            false => None,
        };
        let (outgoing, news) = mpsc::channel(ANNOUNCEMENTS);
        let shared = Arc::new(Shared {
            me,
            url,
            sealer,
            tokens,
            table: Mutex::new(Table::new(me)),
            owner: Mutex::new(None),
            outgoing,
            leaving: AtomicBool::new(false),
            joined: Mutex::new(None),
            syncing: Mutex::default(),
            retention,
            client,
        });
        let listener = listen::Listener::new(Arc::clone(&shared), news, happened).await;
        let listener = listener.map_err(BrokerError::from)?;
        Ok(Self { shared, listener: Mutex::new(Some(listener)), tasks: Mutex::default() })
    }

    /// The tokens that the nodes share; empty when they do not.
    pub fn shared_tokens(&self) -> Vec<Grant> {
        self.shared.tokens.as_ref().map(Follower::grants).unwrap_or_default()
    }

    /// Hears and answers others from now on, until it is dropped.
    pub fn serve(&self, owner: Weak<dyn Owner>) {
        *self.shared.owner.lock() = Some(owner);
        if let Some(listener) = self.listener.lock().take() {
            self.tasks.lock().spawn(listener.run());
        }
    }

    /// Takes other secrets from now on.
    pub fn replace_secrets(&self, secrets: &ClusterSecrets) {
        self.shared.sealer.replace(secrets);
    }

    /// Tells that this node ends now, so that the others need not find out.
    pub async fn gone(&self) {
        self.shared.publish(News::Gone).await;
        if self.shared.connected() {
            // At the end nothing more can be done when this fails.
            let _ = tokio::time::timeout(ask::ANSWER_TIME, self.shared.client.flush()).await;
        }
    }
}

#[async_trait]
impl Directory for Nats {
    fn node(&self) -> Option<NodeId> {
        Some(self.shared.me)
    }

    fn next_generation(&self, environment: &str) -> u64 {
        self.shared.table.lock().next_generation(environment, now())
    }

    fn is_newest(&self, environment: &str, generation: u64) -> bool {
        self.shared.table.lock().is_newest(environment, generation)
    }

    fn registered(&self, environment: &str, registration: &str, generation: u64) {
        let claim = Claim {
            environment: environment.to_owned(),
            registration: registration.to_owned(),
            generation,
            attachment: 0,
        };
        self.shared.table.lock().note(self.shared.me, &claim, false, now());
        self.shared.tell(News::Registered(claim));
    }

    fn gained(&self, environment: &str, registration: &str, generation: u64) {
        let claim = self.shared.table.lock().claim_attached(environment, registration, generation, now());
        self.shared.tell(News::Gained(claim));
    }

    fn lost(&self, environment: &str, registration: &str) {
        let claim = self.shared.table.lock().give_up(environment, registration, now());
        if let Some(claim) = claim {
            self.shared.tell(News::Lost(claim));
        }
    }

    async fn offer(&self, environment: &str, harness: &PublicKey) -> Result<Elsewhere, NoOffer> {
        self.shared.ask_offer(environment, harness).await
    }

    async fn validate(&self, presented: Presented<'_>) -> bool {
        self.shared.ask_validate(presented).await
    }

    async fn loads(&self, node: NodeId, environments: &[String]) -> Option<Vec<Load>> {
        self.shared.ask_loads(node, environments).await
    }

    fn another(&self) -> Option<Url> {
        self.shared.table.lock().another().and_then(|url| Url::parse(url).ok())
    }

    fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.tell(News::Digest(self.shared.digest()));
    }

    fn health(&self) -> Health {
        if self.shared.connected() { Health::Connected } else { Health::Degraded }
    }

    fn nodes(&self) -> Vec<NodeStatus> {
        let digest = self.shared.digest();
        let me = NodeStatus {
            node: self.shared.me,
            url: digest.url,
            leaving: digest.leaving,
            silent: Duration::ZERO,
            levels: digest.levels,
        };
        let others = self.shared.table.lock().nodes(now());
        [me].into_iter().chain(others).collect()
    }

    fn places(&self, after: &str, most: usize) -> Vec<Place> {
        self.shared.table.lock().places(after, most)
    }
}
