//! Serves connections: handshake, routing table, outbox; sessions that outlive connections.

mod connection;
mod life;
mod liveness;
mod oversight;
mod receipts;
mod routes;
mod sending;
mod session;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_exec_protocol::environment::EnvironmentInfo;
use tokio::sync::watch;

use crate::Limits;
use crate::environment::LocalConfig;
use crate::environment::machine::Common;
use crate::transport::Carrier;
use life::ConnectionId;
pub(crate) use liveness::{Due, Liveness};
use session::Sessions;

/// An exec-server: its sessions, and what they share.
pub struct Server {
    common: Arc<Common>,
    sessions: Arc<Sessions>,
    connections: AtomicU64,
    /// True once the server is to end.
    stopping: watch::Sender<bool>,
}

impl Server {
    /// A server without connections; does no I/O.
    pub fn new(config: LocalConfig) -> Arc<Self> {
        let common = Common::new(config);
        Arc::new(Self {
            sessions: Arc::new(Sessions::new(Arc::clone(&common))),
            common,
            connections: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
        })
    }

    /// The bounds of this server, shared by all of its connections.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.common.limits
    }

    /// What this machine is.
    fn info(&self) -> &EnvironmentInfo {
        &self.common.info
    }

    /// Serves one connection until it ends. Its session lives on, detached.
    pub async fn serve(self: &Arc<Self>, carrier: Carrier) {
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        connection::serve(Arc::clone(self), id, carrier).await;
    }

    /// Ends every session and everything they own, and says goodbye on every connection: [`Self::serve`] returns soon
    /// for each, also for those that come later.
    pub async fn end(&self) {
        self.stopping.send_replace(true);
        self.sessions.end().await;
    }
}
