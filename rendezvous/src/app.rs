//! What all requests share: the registry, the switch, the tokens, and the sockets that are open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::HeaderMap;
use axum::http::header::HOST;
use codex_exec_protocol::registry::PublicKey;
use codex_observe::Audit;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use url::Url;

use crate::accounts::{Account, Accounts};
use crate::attach::OpenSocket;
use crate::clock::now;
use crate::cluster::{Directory, Health, Owner};
use crate::limits::Limits;
use crate::metrics::{Levels, Metrics, Standing};
use crate::node_id::NodeId;
use crate::outlet::Closing;
use crate::registry::{NoOffer, Offer, Presented, Record, Registered, Registry};
use crate::status::Environment;
use crate::store::{Change, SHORTEST_QUEUE, Store};
use crate::switch::{Load, Switch};
use crate::threads::Threads;
use crate::ticket::{self, ExecutorTicket, HarnessTicket, Signer};
use crate::tokens::{Grant, Role};

/// The state behind every request. Locks are taken in the order sources, registry, switch, sockets; the directory's is the last.
pub(crate) struct App {
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    /// Where acts are recorded, if anywhere.
    pub(crate) audit: Option<Audit<crate::audit::Record>>,
    pub(crate) accounts: Accounts,
    pub(crate) signer: Signer,
    pub(crate) allow_plain: bool,
    pub(crate) open_metrics: bool,
    pub(crate) switch: Arc<dyn Switch>,
    pub(crate) threads: Threads,
    pub(crate) store: Option<Store>,
    /// Where environments are that are not here.
    pub(crate) directory: Arc<dyn Directory>,
    /// Where websockets are, when that is not where requests come to.
    pub(crate) public_url: Option<Url>,
    /// Where agents reach this node among several.
    pub(crate) node_url: Option<Url>,
    /// Where requests come to, for those that do not say.
    pub(crate) local_url: Url,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) sockets: Mutex<HashMap<u64, OpenSocket>>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
    pub(crate) next_socket: AtomicU64,
    sources: Mutex<TokenSources>,
    leaving: AtomicBool,
    draining: AtomicBool,
}

/// Where tokens come from.
#[derive(Debug)]
struct TokenSources {
    /// This node's own.
    own: Vec<Grant>,
    /// Those that all nodes share.
    shared: Vec<Grant>,
}

impl TokenSources {
    /// All in force. What a node says of a token itself counts.
    fn all(&self) -> Vec<Grant> {
        let own: HashSet<_> = self.own.iter().map(|grant| grant.hash).collect();
        let shared = self.shared.iter().filter(|grant| !own.contains(&grant.hash));
        self.own.iter().chain(shared).cloned().collect()
    }
}

/// What [`App::new`] needs.
pub(crate) struct Parts {
    pub(crate) limits: Limits,
    pub(crate) grants: Vec<Grant>,
    pub(crate) shared_grants: Vec<Grant>,
    pub(crate) allow_plain: bool,
    pub(crate) open_metrics: bool,
    pub(crate) audit: Option<Audit<crate::audit::Record>>,
    pub(crate) switch: Arc<dyn Switch>,
    pub(crate) threads: Threads,
    pub(crate) store: Option<(Store, Vec<Record>)>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) signer: Signer,
    pub(crate) public_url: Option<Url>,
    pub(crate) node_url: Option<Url>,
    pub(crate) local_url: Url,
}

/// The way to an environment.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) offer: Offer,
    /// The node that has the executor, where there are several.
    pub(crate) node: Option<NodeId>,
    /// Where that node is; `None`: where the request came to.
    pub(crate) url: Option<Url>,
}

/// Why a registration failed.
#[derive(Debug)]
pub(crate) enum RegisterFailure {
    /// The token has as many environments as it may.
    TooMany,
    /// The store is behind.
    Busy,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let limits = Arc::new(parts.limits);
        let sources = TokenSources { own: parts.grants, shared: parts.shared_grants };
        let mut registry = Registry::new(&limits);
        let (store, records) = parts.store.unzip();
        for record in records.into_iter().flatten() {
            registry.restore(record, now());
        }
        Arc::new(Self {
            accounts: Accounts::new(sources.all(), Arc::clone(&limits)),
            limits,
            metrics: Arc::new(Metrics::new()),
            audit: parts.audit,
            signer: parts.signer,
            allow_plain: parts.allow_plain,
            open_metrics: parts.open_metrics,
            switch: parts.switch,
            threads: parts.threads,
            store,
            directory: parts.directory,
            public_url: parts.public_url,
            node_url: parts.node_url,
            local_url: parts.local_url,
            registry: Mutex::new(registry),
            sockets: Mutex::default(),
            tasks: Mutex::default(),
            next_socket: AtomicU64::new(0),
            sources: Mutex::new(sources),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether no new executor is let in: the node ends, or is about to.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Registers an executor and closes the sockets of the earlier registration.
    pub(crate) async fn register(
        &self,
        environment: &str,
        key: Option<PublicKey>,
        account: &Account,
    ) -> Result<Registered, RegisterFailure> {
        let (registered, stored) = {
            let mut registry = self.registry.lock();
            if self.store.as_ref().is_some_and(|store| store.room() < SHORTEST_QUEUE) {
                return Err(RegisterFailure::Busy);
            }
            let registered = registry
                .register(
                    environment,
                    key,
                    &account.grant.hash,
                    self.directory.next_generation(environment),
                    now(),
                )
                .ok_or(RegisterFailure::TooMany)?;
            // Queued under the lock, so that disk and memory see the same order.
            if let Some(forgotten) = &registered.forgotten {
                self.forget(forgotten.clone());
            }
            let stored = self.keep(&registered.record);
            if let Some(replaced) = &registered.replaced {
                self.switch.close(replaced, Closing::Superseded);
            }
            let record = &registered.record;
            self.directory.registered(environment, &record.registration, record.generation);
            (registered, stored)
        };
        // An error is logged where it happens. It does not fail the registration: executors would exit, while
        // after a restart they register again.
        if let Some(stored) = stored
            && tokio::time::timeout(self.limits.store.store_time, stored).await.is_err()
        {
            tracing::warn!(
                environment,
                "the store is slow; a registration is answered before it is on the disk"
            );
        }
        let plain = registered.record.key.is_none();
        let registration = &registered.record.registration;
        tracing::info!(environment, %registration, plain, token = %account.grant.hash.short(), "registered");
        Ok(registered)
    }

    /// Has a registration stored; called under the registry's lock, so that disk and memory see the same order.
    pub(crate) fn keep(&self, record: &Record) -> Option<tokio::sync::oneshot::Receiver<bool>> {
        self.store.as_ref().and_then(|store| store.change(Change::Keep(record.clone())).ok())
    }

    pub(crate) fn forget(&self, record: Record) {
        tracing::info!(environment = %record.environment, "forgotten");
        if let Some(store) = &self.store
            && store.change(Change::Forget(record)).is_err()
        {
            tracing::warn!("the store is behind; what was forgotten comes back at a restart");
        }
    }

    /// Forgets what nobody has used for long.
    pub(crate) fn sweep(&self) {
        let mut registry = self.registry.lock();
        for record in registry.sweep(now()) {
            self.forget(record);
        }
    }

    /// The way to an environment: here, or at the node that has it.
    pub(crate) async fn connect(&self, environment: &str, harness: &PublicKey) -> Result<Way, NoOffer> {
        let here = self.registry.lock().connect(environment, harness, now());
        let why = match here {
            Ok(offer) => return Ok(Way { offer, node: self.directory.node(), url: self.node_url.clone() }),
            Err(NoOffer::Plain) => return Err(NoOffer::Plain),
            Err(why) if self.directory.node().is_none() => return Err(why),
            Err(why) => why,
        };
        match self.directory.offer(environment, harness).await {
            Ok(way) => Ok(Way { offer: way.offer, node: Some(way.node), url: Some(way.url) }),
            // Registered here, but not attached anywhere.
            Err(NoOffer::Unknown) => Err(why),
            Err(other) => Err(other),
        }
    }

    /// Whether an authorization is good, whichever node made it.
    pub(crate) async fn validate(&self, presented: Presented<'_>) -> bool {
        let here = Owner::validate(self, presented);
        here || (self.directory.node().is_some() && self.directory.validate(presented).await)
    }

    /// The address of the websocket: that of a node, the operator's, or else the one that this request came to.
    pub(crate) fn websocket_url(&self, headers: &HeaderMap, node: Option<Url>, query: &str) -> String {
        let mut url = node.or_else(|| self.public_url.clone()).unwrap_or_else(|| {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let here =
                host.and_then(|host| Url::parse(&format!("{}://{host}", self.local_url.scheme())).ok());
            let plain =
                |url: &Url| url.username().is_empty() && url.password().is_none() && url.path() == "/";
            here.filter(plain).unwrap_or_else(|| self.local_url.clone())
        });
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        // Both are schemes of the same kind, so this can't fail.
        let _ = url.set_scheme(scheme);
        let path = format!("{}{}", url.path().trim_end_matches('/'), ticket::PATH);
        url.set_path(&path);
        url.set_query(Some(query));
        url.set_fragment(None);
        url.into()
    }

    /// The query of an executor's URL. Among several nodes every one takes it.
    pub(crate) fn executor_query(&self, registered: &Registered) -> String {
        let record = &registered.record;
        match &record.key {
            Some(key) if self.directory.node().is_some() => self.signer.executor_query(&ExecutorTicket {
                environment: record.environment.clone(),
                registration: record.registration.clone(),
                key: key.clone(),
                account: record.owner.clone(),
                generation: record.generation,
                expires: now() + self.limits.callers.retention,
            }),
            _ => {
                ticket::executor_query(&record.environment, &record.registration, registered.ticket.expose())
            }
        }
    }

    pub(crate) fn harness_query(&self, environment: &str, way: &Way, account: &Account) -> String {
        self.signer.harness_query(&HarnessTicket {
            environment: environment.to_owned(),
            registration: way.offer.registration.clone(),
            account: account.grant.hash.short(),
            node: way.node,
            expires: now() + self.limits.callers.ticket_life,
        })
    }

    /// Puts other tokens in force and closes the sockets of tokens that are gone.
    pub(crate) fn replace_tokens(&self, grants: Vec<Grant>) {
        self.sources.lock().own = grants;
        self.apply_tokens();
    }

    fn apply_tokens(&self) {
        let sources = self.sources.lock();
        self.accounts.replace(sources.all());
        for socket in self.sockets.lock().values() {
            if !self.accounts.still_allows(&socket.token, socket.role, &socket.environment) {
                socket.outlet.close(Closing::Revoked);
            }
        }
    }

    /// Lets no executor in any more and sends those that are here to other nodes, spread over `drain_time`. Ends at once when
    /// there is no other node.
    pub(crate) async fn leave(&self) {
        if self.directory.another().is_none() {
            return;
        }
        self.leaving.store(true, Ordering::Relaxed);
        self.directory.leave();
        let mut executors: Vec<_> = {
            let sockets = self.sockets.lock();
            let executors = sockets.values().filter(|socket| socket.role == Role::Executor);
            executors.map(|socket| Arc::clone(&socket.outlet)).collect()
        };
        let pause = self.limits.times.drain_time / u32::try_from(executors.len().max(1)).unwrap_or(u32::MAX);
        tracing::info!(executors = executors.len(), "leaving; executors are sent to other nodes");
        while let Some(outlet) = executors.pop() {
            outlet.close(Closing::Draining);
            if let Some(next) = executors.last() {
                // One that goes by itself is not waited for.
                let _ = tokio::time::timeout(pause, next.closed()).await;
            }
        }
    }

    /// Refuses new connections, closes every socket, and waits for their close frames.
    pub(crate) async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for socket in self.sockets.lock().values() {
            socket.outlet.close(Closing::Draining);
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        // Each socket takes at most `farewell`; the doubled time is for slow machines.
        let patience = self.limits.times.farewell * 2;
        let _ = tokio::time::timeout(patience, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// Writes what the store has queued. Blocks.
    pub(crate) fn close_store(&self) {
        if let Some(store) = &self.store {
            store.close();
        }
    }

    /// Ends every socket without a word.
    pub(crate) fn abort(&self) {
        // Outside the lock: the sockets' ends take others.
        let tasks = std::mem::take(&mut *self.tasks.lock());
        drop(tasks);
    }

    /// Where environments are, in the order of their ids from `after` on, at most `most`. Who uses them is not filled in.
    pub(crate) fn places(&self, after: &str, most: usize) -> Vec<Environment> {
        let place = |environment, node, attached| Environment {
            environment,
            node,
            attached,
            harnesses: None,
            streams: None,
        };
        if self.directory.node().is_none() {
            let places = self.registry.lock().places(after, most);
            return places.into_iter().map(|(id, attached)| place(id, None, attached)).collect();
        }
        let places = self.directory.places(after, most).into_iter();
        places.map(|at| place(at.environment, Some(at.node), at.attached)).collect()
    }

    /// What this node is among others.
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            nodes: self.directory.nodes().len().max(1),
            connected: self.directory.health() != Health::Degraded,
            leaving: self.is_leaving() || self.is_draining(),
        }
    }

    /// What the gauges show, and other nodes are told.
    pub(crate) fn levels(&self) -> Levels {
        let (environments, executors) = {
            let registry = self.registry.lock();
            (registry.len(), registry.attached())
        };
        let harnesses = self.sockets.lock().values().filter(|socket| socket.role == Role::Harness).count();
        Levels {
            environments,
            executors,
            harnesses,
            streams: self.accounts.streams(),
            queued: self.accounts.queued(),
        }
    }
}

impl Owner for App {
    fn offer(&self, environment: &str, harness: &PublicKey) -> Result<Offer, NoOffer> {
        self.registry.lock().connect(environment, harness, now())
    }

    fn validate(&self, presented: Presented<'_>) -> bool {
        self.registry.lock().validate(presented, now())
    }

    fn loads(&self, environments: &[String]) -> Vec<Load> {
        let registry = self.registry.lock();
        let load = |id: &String| {
            registry.current(id).map(|record| self.switch.load(&record.registration)).unwrap_or_default()
        };
        environments.iter().map(load).collect()
    }

    fn superseded(&self, environment: &str, registration: &str, generation: u64) {
        let mut registry = self.registry.lock();
        if let Some(older) = registry.supersede(environment, generation) {
            self.switch.close(&older.registration, Closing::Superseded);
            self.forget(older);
        } else if registry.current(environment).is_some_and(|record| record.registration == registration) {
            self.switch.close(registration, Closing::Superseded);
        }
    }

    fn share_tokens(&self, grants: Vec<Grant>) {
        self.sources.lock().shared = grants;
        self.apply_tokens();
    }

    fn levels(&self) -> Levels {
        Self::levels(self)
    }
}
