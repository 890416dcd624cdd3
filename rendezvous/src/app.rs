//! What all requests share: the registry, the switch, the tokens, and the sockets that are open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::HOST;
use codex_exec_protocol::registry::PublicKey;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use url::Url;

use crate::accounts::{Account, Accounts};
use crate::attach::OpenSocket;
use crate::limits::Limits;
use crate::metrics::{Levels, Metrics};
use crate::outlet::Closing;
use crate::registry::{NoOffer, Offer, Record, Registered, Registry};
use crate::store::{Change, SHORTEST_QUEUE, Store};
use crate::switch::Switch;
use crate::ticket::{self, HarnessTicket, Signer};
use crate::tokens::{Grant, Role};

/// The state behind every request. Locks are taken in the order registry, switch, sockets.
pub(crate) struct App {
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) accounts: Accounts,
    pub(crate) signer: Signer,
    pub(crate) allow_plain: bool,
    pub(crate) open_metrics: bool,
    pub(crate) switch: Arc<dyn Switch>,
    pub(crate) store: Option<Store>,
    /// Where websockets are, when that is not where requests come to.
    pub(crate) public_url: Option<Url>,
    /// Where requests come to, for those that do not say.
    pub(crate) local_url: Url,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) sockets: Mutex<HashMap<u64, OpenSocket>>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
    pub(crate) next_socket: AtomicU64,
    draining: AtomicBool,
}

/// What [`App::new`] needs.
pub(crate) struct Parts {
    pub(crate) limits: Limits,
    pub(crate) grants: Vec<Grant>,
    pub(crate) allow_plain: bool,
    pub(crate) open_metrics: bool,
    pub(crate) switch: Arc<dyn Switch>,
    pub(crate) store: Option<(Store, Vec<Record>)>,
    pub(crate) public_url: Option<Url>,
    pub(crate) local_url: Url,
}

/// Why a registration failed.
#[derive(Debug)]
pub(crate) enum RegisterFailure {
    /// The token has as many environments as it may.
    TooMany,
    /// The store is behind.
    Busy,
}

/// Time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl App {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let limits = Arc::new(parts.limits);
        let mut registry = Registry::new(&limits);
        let (store, records) = parts.store.unzip();
        for record in records.into_iter().flatten() {
            registry.restore(record, now());
        }
        Arc::new(Self {
            accounts: Accounts::new(parts.grants, Arc::clone(&limits)),
            limits,
            metrics: Arc::new(Metrics::new()),
            signer: Signer::new(),
            allow_plain: parts.allow_plain,
            open_metrics: parts.open_metrics,
            switch: parts.switch,
            store,
            public_url: parts.public_url,
            local_url: parts.local_url,
            registry: Mutex::new(registry),
            sockets: Mutex::default(),
            tasks: Mutex::default(),
            next_socket: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
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
                .register(environment, key, &account.grant.hash, now())
                .ok_or(RegisterFailure::TooMany)?;
            // Queued under the lock, so that disk and memory see the same order.
            if let Some(forgotten) = &registered.forgotten {
                self.forget(forgotten.clone());
            }
            let change = Change::Keep(registered.record.clone());
            let stored = self.store.as_ref().and_then(|store| store.change(change).ok());
            if let Some(replaced) = &registered.replaced {
                self.switch.close(replaced, Closing::Superseded);
            }
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

    fn forget(&self, record: Record) {
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

    pub(crate) fn connect(&self, environment: &str, harness: &PublicKey) -> Result<Offer, NoOffer> {
        self.registry.lock().connect(environment, harness, now())
    }

    pub(crate) fn validate(
        &self,
        environment: &str,
        registration: &str,
        harness: &PublicKey,
        authorization: &str,
    ) -> bool {
        self.registry.lock().validate(environment, registration, harness, authorization, now())
    }

    /// The address of the websocket: the operator's, or else the one that this request came to.
    pub(crate) fn websocket_url(&self, headers: &HeaderMap, query: &str) -> String {
        let mut url = self.public_url.clone().unwrap_or_else(|| {
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

    pub(crate) fn harness_query(&self, environment: &str, registration: &str, account: &Account) -> String {
        self.signer.harness_query(&HarnessTicket {
            environment: environment.to_owned(),
            registration: registration.to_owned(),
            account: account.grant.hash.short(),
            expires: now() + self.limits.callers.ticket_life,
        })
    }

    /// Puts other tokens in force and closes the sockets of tokens that are gone.
    pub(crate) fn replace_tokens(&self, grants: Vec<Grant>) {
        self.accounts.replace(grants);
        for socket in self.sockets.lock().values() {
            if !self.accounts.still_allows(&socket.token, socket.role, &socket.environment) {
                socket.outlet.close(Closing::Revoked);
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

    /// What the gauges show.
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
