//! The directory of nodes that find each other over NATS. Core NATS only: nothing is stored there, and what gets lost
//! is made good by the next digest.

mod ask;
mod listen;
mod shared;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use async_trait::async_trait;
use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::Connector;
use url::Url;

use self::shared::Shared;
use super::directory::{ClusterConfig, Directory, Elsewhere, Health, NodeStatus, Owner, Place};
use super::message::{Claim, News};
use super::seal::Sealer;
use super::secret::ClusterSecrets;
use super::table::Table;
use crate::clock::now;
use crate::node_id::NodeId;
use crate::registry::NoOffer;

/// Announcements on their way to the broker. More are dropped, and the next digest makes good for them.
/// Chosen for speed.
const ANNOUNCEMENTS: usize = 64 << 10;
/// How often the broker is asked whether it lives.
const BROKER_PING: Duration = Duration::from_secs(2);
/// The broker can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// An address is none.
    #[error("the cluster's broker is given as nats://HOST:PORT or tls://HOST:PORT; {0} can't be used")]
    Address(String),
    /// Certificates for TLS can't be read.
    #[error("can't use TLS to the cluster's broker: {0}")]
    Tls(String),
    /// The client does not start.
    #[error("can't set up the connection to the cluster's broker: {0}")]
    Connect(#[from] async_nats::ConnectError),
    /// The client does not listen.
    #[error("can't listen at the cluster's broker: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
}

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
    /// Begins to look for the broker, which need not be there yet, for the node at this address. Nothing is heard before [`Self::serve`].
    ///
    /// # Errors
    /// When an address or a certificate can't be used.
    pub async fn join(config: &ClusterConfig, url: Url, retention: Duration) -> Result<Self, BrokerError> {
        let addresses = config.brokers.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let me = NodeId::random();
        let (events, happened) = mpsc::unbounded_channel();
        let mut options = ConnectOptions::new()
            .name("codex rendezvous")
            .no_echo()
            .retry_on_initial_connect()
            .ping_interval(BROKER_PING)
            .reconnect_delay_callback(delay)
            .tls_client_config(tls(config).await?)
            .event_callback(move |event| {
                let _ = events.send(event);
                std::future::ready(())
            });
        if let Some(credentials) = &config.credentials {
            options = match credentials.expose().split_once(':') {
                Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
                None => options.token(credentials.expose().to_owned()),
            };
        }
        let client = options.connect(addresses).await?;
        let (outgoing, news) = mpsc::channel(ANNOUNCEMENTS);
        let shared = Arc::new(Shared {
            me,
            url,
            sealer: Sealer::new(me, &config.secrets),
            table: Mutex::new(Table::new(me)),
            owner: Mutex::new(None),
            outgoing,
            leaving: AtomicBool::new(false),
            joined: Mutex::new(None),
            syncing: Mutex::default(),
            retention,
            client,
        });
        let listener = listen::Listener::new(Arc::clone(&shared), news, happened).await?;
        Ok(Self { shared, listener: Mutex::new(Some(listener)), tasks: Mutex::default() })
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

/// Whom a broker's TLS has to satisfy. A broker that asks for TLS at an address without it is trusted by nobody.
async fn tls(config: &ClusterConfig) -> Result<ClientConfig, BrokerError> {
    let wrong = |error: &dyn fmt::Display| BrokerError::Tls(error.to_string());
    if config.brokers.iter().any(|url| url.scheme() == "tls") {
        let https = Url::parse("https://broker.invalid").map_err(|error| wrong(&error))?;
        let connector = config.outgoing.connector(&https).await.map_err(|error| wrong(&error))?;
        if let Connector::Rustls(tls) = connector {
            return Ok((*tls).clone());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn address(url: &Url) -> Result<ServerAddr, BrokerError> {
    // Not shown as it is: it may hold a password.
    let shown = || BrokerError::Address(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()));
    let good = matches!(url.scheme(), "nats" | "tls")
        && url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/");
    if !good {
        return Err(shown());
    }
    ServerAddr::from_url(url.clone()).map_err(|_| shown())
}

/// Nodes that lost the broker together do not come back together.
fn delay(attempts: usize) -> Duration {
    let most = if attempts <= 1 { 250 } else { 1_000 };
    Duration::from_millis(rand::random_range(0..most))
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

    async fn validate(
        &self,
        environment: &str,
        registration: &str,
        harness: &PublicKey,
        authorization: &Secret,
    ) -> bool {
        self.shared.ask_validate(environment, registration, harness, authorization).await
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
