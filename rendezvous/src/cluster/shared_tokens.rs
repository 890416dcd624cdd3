//! The tokens that all nodes share: one list, kept by the broker, which can neither read, make up nor change it.
//!
//! The list is sealed as messages are, and has a version that grows with each change. Nodes tell each other their version and
//! take no older list, so that a broker can't bring a token back by showing an old one.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{Context, GetStreamError, GetStreamErrorKind, KeyValueError};
use async_nats::jetstream::kv::{Entry, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{self, DiscardPolicy};
use async_nats::{Client, StatusCode, jetstream};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{self, BrokerError};
use super::directory::ClusterConfig;
use super::message::{
    About, Announcement, Answer, List, News, Question, announcements, answer_context, everybody, milliseconds,
};
use super::seal::{Opened, Sealer};
use crate::clock::now;
use crate::node_id::NodeId;
use crate::tokens::{Grant, TokenFileError};

/// What the key-value store is called at the broker.
const BUCKET: &str = "codex-rendezvous";
/// The list's key, and what binds its seal to this use.
const KEY: &str = "tokens";
/// Longest list: NATS takes messages of 1 MiB by default. Fixed by the wire.
const LIST_BYTES: usize = 900 << 10;
/// How long the broker may take for an answer. Our own pace: nothing outside depends on it.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long nodes may take to answer an operator's command. Our own pace: nothing outside depends on it.
const NODES_TIME: Duration = Duration::from_millis(300);
/// How often a change is tried that others were faster with.
const ATTEMPTS: usize = 16;

/// Why the shared tokens can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SharedTokensError {
    /// There is no connection to a broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker only passes messages on.
    #[error(
        "the cluster's broker keeps nothing, because its JetStream is off: start it with `nats-server -js -sd DIRECTORY`, or \
         add `jetstream {{ store_dir: DIRECTORY }}` to its settings; or give each node a --tokens file instead"
    )]
    NoJetStream,
    /// The broker does not answer, or can't.
    #[error("the cluster's broker does not give the shared tokens: {0}")]
    Unreachable(String),
    /// The list is not of this cluster, or somebody has changed it.
    #[error(
        "the tokens at the broker are not sealed by a secret of --cluster-secret-file: they are of another cluster or another \
         secret, or somebody has changed them"
    )]
    Foreign,
    /// The list is too long for the broker.
    #[error(
        "the list of shared tokens would have more than {LIST_BYTES} bytes; a token may be for many environments"
    )]
    TooLong,
    /// The list holds what is no token.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// Others change the list all the time.
    #[error("the shared tokens are being changed by others; try again")]
    Contended,
}

impl SharedTokensError {
    /// Whether waiting may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Contended)
    }
}

/// The list and its place in the store.
#[derive(Debug)]
struct Kept {
    list: List,
    revision: u64,
    /// Whether the secret that signs now has sealed it, and not one on its way out.
    seal_is_current: bool,
}

impl Kept {
    fn nothing(revision: u64) -> Self {
        Self { list: List::default(), revision, seal_is_current: true }
    }
}

/// The way to the shared tokens.
pub struct SharedTokens {
    client: Client,
    context: Context,
    sealer: Arc<Sealer>,
}

impl std::fmt::Debug for SharedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedTokens").finish_non_exhaustive()
    }
}

impl SharedTokens {
    /// Connects to a broker, for an operator's command.
    ///
    /// # Errors
    /// Without a broker that can be reached.
    pub async fn connect(config: &ClusterConfig) -> Result<Self, SharedTokensError> {
        let client = connection::options(config).await?.connect(connection::addresses(config)?);
        let client = timeout(ANSWER_TIME, client).await;
        let client = client.map_err(|_| SharedTokensError::Unreachable("it can't be reached".to_owned()))?;
        let client = client.map_err(|error| SharedTokensError::Unreachable(error.to_string()))?;
        Ok(Self::over(client, Arc::new(Sealer::new(NodeId::random(), &config.secrets))))
    }

    /// Over a node's own connection.
    pub(super) fn over(client: Client, sealer: Arc<Sealer>) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_TIME);
        Self { client, context, sealer }
    }

    /// The tokens in force.
    ///
    /// # Errors
    /// When the broker does not give them, or what it gives is not the list.
    pub async fn grants(&self) -> Result<Vec<Grant>, SharedTokensError> {
        Ok(self.list().await?.grants()?)
    }

    /// Changes the list; all nodes are told at once. The change may be called again when others were faster.
    ///
    /// # Errors
    /// When the broker does not give or take the list, and what `change` returns.
    pub async fn change<E: From<SharedTokensError>>(
        &self,
        mut change: impl FnMut(&mut Vec<Grant>) -> Result<(), E>,
    ) -> Result<(), E> {
        for _ in 0..ATTEMPTS {
            let store = match self.store().await? {
                Some(store) => store,
                None => self.create().await?,
            };
            let kept = self.newest(&store).await?;
            let mut grants = kept.list.grants().map_err(SharedTokensError::from)?;
            change(&mut grants)?;
            let version = milliseconds(now()).max(kept.list.version.saturating_add(1));
            let lines = grants.iter().map(|grant| format!("{grant}\n")).collect();
            if self.put(&store, kept.revision, &List { version, lines }).await? {
                self.announce(version).await;
                return Ok(());
            }
        }
        Err(SharedTokensError::Contended.into())
    }

    /// The list. One that was sealed by a secret on its way out is sealed anew.
    pub(super) async fn list(&self) -> Result<List, SharedTokensError> {
        let (store, kept) = self.kept().await?;
        if let Some(store) = store.filter(|_| !kept.seal_is_current) {
            // Other nodes do the same, and one of them is the first.
            if let Err(error) = self.put(&store, kept.revision, &kept.list).await {
                tracing::debug!(%error, "the shared tokens are not sealed anew");
            }
        }
        Ok(kept.list)
    }

    async fn kept(&self) -> Result<(Option<Store>, Kept), SharedTokensError> {
        let Some(store) = self.store().await? else { return Ok((None, Kept::nothing(0))) };
        let Some(entry) = entry(&store).await? else { return Ok((Some(store), Kept::nothing(0))) };
        let kept = self.open(&entry).ok_or(SharedTokensError::Foreign)?;
        Ok((Some(store), kept))
    }

    /// The list that the broker keeps, or the newer one of a node: a change of an old list would bring back what was taken away.
    async fn newest(&self, store: &Store) -> Result<Kept, SharedTokensError> {
        let entry = entry(store).await?;
        let kept = match &entry {
            None => Some(Kept::nothing(0)),
            Some(entry) => self.open(entry),
        };
        let Some(list) = self.newest_of_nodes().await else {
            if entry.is_some() {
                tracing::warn!("no node answers; the list is taken as the broker shows it");
            }
            return kept.ok_or(SharedTokensError::Foreign);
        };
        match kept {
            Some(kept) if kept.list.version >= list.version => Ok(kept),
            _ => Ok(Kept { list, ..Kept::nothing(entry.map_or(0, |entry| entry.revision)) }),
        }
    }

    fn open(&self, entry: &Entry) -> Option<Kept> {
        let Opened { text, by_current, .. } = self.sealer.open(KEY.as_bytes(), &entry.value)?;
        let list = serde_json::from_slice(&text).ok()?;
        Some(Kept { list, revision: entry.revision, seal_is_current: by_current })
    }

    /// The newest list that a node has.
    async fn newest_of_nodes(&self) -> Option<List> {
        let nonce = rand::random();
        let question = Question { nonce, at: milliseconds(now()), about: About::Tokens };
        let text = serde_json::to_vec(&question).ok()?;
        let subject = everybody();
        let sealed = self.sealer.seal(subject.as_bytes(), &text)?;
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.ok()?;
        self.client.publish_with_reply(subject, inbox, sealed.into()).await.ok()?;
        let deadline = Instant::now() + NODES_TIME;
        let mut newest: Option<List> = None;
        while let Ok(Some(message)) = timeout_at(deadline, answers.next()).await {
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                break;
            }
            let Some(opened) = self.sealer.open(&answer_context(&nonce), &message.payload) else { continue };
            let Ok(Answer::Tokens(list)) = serde_json::from_slice(&opened.text) else { continue };
            if newest.as_ref().is_none_or(|newest| list.version > newest.version) {
                newest = Some(list);
            }
        }
        newest
    }

    /// The store, if there is one yet.
    async fn store(&self) -> Result<Option<Store>, SharedTokensError> {
        let error = match patiently(async { Ok(self.context.get_key_value(BUCKET).await) }).await {
            Ok(Ok(store)) => return Ok(Some(store)),
            Ok(Err(error)) if is_missing(&error) => return Ok(None),
            Ok(Err(error)) => unreachable(error),
            Err(late) => late,
        };
        // A broker among others is silent when it keeps nothing, and one that is alone says that nobody answers.
        let is_off =
            self.client.connection_state() == State::Connected && !self.client.server_info().jetstream;
        Err(if is_off { SharedTokensError::NoJetStream } else { error })
    }

    /// Makes the store, at three brokers where there are as many. Reads go to the broker that leads, so that what was just stored is
    /// seen. (The library's own way asks for the account first, in a form that servers of 2.9 do not have.)
    async fn create(&self) -> Result<Store, SharedTokensError> {
        let config = |num_replicas| stream::Config {
            name: format!("KV_{BUCKET}"),
            description: Some("tokens of codex exec-server rendezvous, sealed".to_owned()),
            subjects: vec![format!("$KV.{BUCKET}.>")],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            num_replicas,
            ..stream::Config::default()
        };
        let create = async |replicas| {
            patiently(async { self.context.create_stream(config(replicas)).await.map_err(unreachable) }).await
        };
        if create(3).await.is_err() {
            create(1).await?;
        }
        let made = self.store().await?;
        made.ok_or_else(|| SharedTokensError::Unreachable("it does not make the store".to_owned()))
    }

    /// Stores the list, unless another one came first.
    async fn put(&self, store: &Store, revision: u64, list: &List) -> Result<bool, SharedTokensError> {
        let text = serde_json::to_vec(list).map_err(unreachable)?;
        if text.len() > LIST_BYTES {
            return Err(SharedTokensError::TooLong);
        }
        let sealed = self.sealer.seal(KEY.as_bytes(), &text);
        let sealed = sealed.ok_or_else(|| SharedTokensError::Unreachable("it can't be sealed".to_owned()))?;
        let putting = async { Ok(store.update(KEY, sealed.into(), revision).await) };
        match patiently(putting).await? {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(unreachable(error)),
        }
    }

    /// Tells the nodes; who misses it is told by the others' digests.
    async fn announce(&self, version: u64) {
        let announcement = Announcement { at: milliseconds(now()), news: News::Tokens { version } };
        let subject = announcements();
        let Ok(text) = serde_json::to_vec(&announcement) else { return };
        let Some(sealed) = self.sealer.seal(subject.as_bytes(), &text) else { return };
        let told = async {
            self.client.publish(subject, sealed.into()).await.is_ok() && self.client.flush().await.is_ok()
        };
        if !timeout(ANSWER_TIME, told).await.unwrap_or(false) {
            tracing::warn!(
                "nodes are not told that the tokens have changed; they look by themselves every 5 s"
            );
        }
    }
}

async fn entry(store: &Store) -> Result<Option<Entry>, SharedTokensError> {
    patiently(async { store.entry(KEY).await.map_err(unreachable) }).await
}

async fn patiently<T>(
    work: impl Future<Output = Result<T, SharedTokensError>>,
) -> Result<T, SharedTokensError> {
    let late = |_| SharedTokensError::Unreachable(format!("no answer within {} s", ANSWER_TIME.as_secs()));
    timeout(ANSWER_TIME, work).await.map_err(late)?
}

fn unreachable(error: impl std::error::Error) -> SharedTokensError {
    SharedTokensError::Unreachable(codex_outgoing::sentence(&error))
}

/// Whether the broker keeps things, but not yet this.
fn is_missing(error: &KeyValueError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<GetStreamError>());
    let Some(GetStreamErrorKind::JetStream(error)) = cause.map(GetStreamError::kind) else { return false };
    error.error_code() == ErrorCode::STREAM_NOT_FOUND
}
