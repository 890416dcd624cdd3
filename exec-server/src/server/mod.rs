//! Serves connections: handshake, routing table, outbox; sessions that outlive connections.

mod announcing;
mod answer;
mod connection;
mod http_bodies;
mod kept;
mod kimi;
mod liveness;
mod oversight;
mod receipts;
mod routes;
mod sending;
mod session;
mod session_life;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Limits;
use crate::blocking;
use crate::environment::LocalConfig;
use crate::observe::Observer;
use crate::process::Handed;
use crate::transport::Carrier;
use codex_children::keeper::Entry;
pub(crate) use liveness::{Due, Liveness};
use session_life::ConnectionId;
use shared::{Shared, Stopping};

/// An exec-server: its sessions, and what they share.
pub struct Server {
    shared: Arc<Shared>,
    connections: AtomicU64,
}

impl Server {
    /// A server without connections; does no I/O.
    pub fn new(config: LocalConfig) -> Arc<Self> {
        Self::observed(config, Observer::default())
    }

    /// A server whose requests are recorded and counted. Its programs are counted where [`LocalConfig::host`] says.
    pub fn observed(config: LocalConfig, observer: Observer) -> Arc<Self> {
        let shared = Arc::new(Shared::new(config, observer));
        Arc::new(Self { shared, connections: AtomicU64::new(0) })
    }

    /// Who looks on.
    pub fn observer(&self) -> &Observer {
        &self.shared.observer
    }

    /// The bounds of this server, shared by all of its connections.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.shared.common.limits
    }

    /// Goes on with what an earlier server has left: its sessions, and their programs with their output. To be called within a
    /// runtime, and before anything is served. What can't go on is ended.
    pub fn take_over(&self, entries: Vec<Entry>) {
        self.shared.sessions.await_sessions();
        let handed = entries.into_iter().filter_map(|entry| match Handed::by_keeper(entry) {
            Ok(handed) => Some(handed),
            Err(error) => {
                tracing::warn!(%error, "something that an earlier server left can't be used");
                None
            }
        });
        self.shared.sessions.take_over(handed.collect());
    }

    /// Serves one connection until it ends. Its session lives on, detached.
    pub async fn serve(&self, carrier: Carrier) {
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        connection::serve(Arc::clone(&self.shared), id, carrier).await;
    }

    /// Lets all clients go, since another server is about to take this one's place: they are told to come back. Sessions
    /// stay, and [`Self::serve`] returns soon for each connection, also for those that come later.
    pub fn suspend(&self) {
        self.shared.stopping.send_replace(Stopping::Restart);
    }

    /// No other server came: goes on as before.
    pub fn go_on(&self) {
        self.shared.stopping.send_replace(Stopping::No);
    }

    /// Ends every session and everything they own, and says goodbye on every connection: [`Self::serve`] returns soon
    /// for each, also for those that come later.
    pub async fn end(&self) {
        self.shared.stopping.send_replace(Stopping::End);
        self.shared.sessions.end().await;
        let observer = self.shared.observer.clone();
        if observer.has_last_words() && blocking::spawn(move || observer.flush()).await.is_err() {
            tracing::warn!("some audit records may not be written");
        }
    }
}
