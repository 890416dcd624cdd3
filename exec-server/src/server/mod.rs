//! Serves connections: handshake, routing table, outbox; sessions that outlive connections.

mod connection;
mod disk;
mod file_order;
mod life;
mod liveness;
mod oversight;
mod receipts;
mod routes;
mod session;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_exec_protocol::environment::EnvironmentInfo;
use tokio::sync::watch;

use crate::Limits;
use crate::http::LocalHttp;
use crate::process::{Host, Leftovers};
use crate::sandbox::Confiner;
use crate::transport::Carrier;
use life::ConnectionId;
pub(crate) use liveness::{Due, Liveness};
use session::Sessions;

/// What a server is made from. The binary finds these facts; the library reads no environment.
pub struct ServerConfig {
    /// The bounds.
    pub limits: Limits,
    /// What programs are started from.
    pub host: Host,
    /// What this machine is.
    pub info: EnvironmentInfo,
    /// What happens to descendants that outlive their process when the session ends.
    pub leftovers: Leftovers,
}

/// An exec-server: its sessions, and what they share.
pub struct Server {
    limits: Arc<Limits>,
    info: EnvironmentInfo,
    sessions: Arc<Sessions>,
    http: LocalHttp,
    confiner: Option<Arc<Confiner>>,
    connections: AtomicU64,
    /// True once the server is to end.
    stopping: watch::Sender<bool>,
}

impl Server {
    /// A server without connections; does no I/O.
    pub fn new(config: ServerConfig) -> Arc<Self> {
        let limits = Arc::new(config.limits);
        let host = Arc::new(config.host);
        let variables = Arc::clone(&host);
        Arc::new(Self {
            http: LocalHttp::new(&limits, move |name: &str| {
                variables.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }),
            confiner: host.confiner.clone(),
            sessions: Arc::new(Sessions::new(Arc::clone(&limits), host, config.leftovers)),
            limits,
            info: config.info,
            connections: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
        })
    }

    /// The bounds.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
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
