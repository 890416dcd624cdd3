//! Reaches an exec-server: connects, calls, follows output, resumes.
//!
//! One driver task owns the connection. Calls reach it through a bounded queue; what arrives is routed to the call,
//! the process or the HTTP body it belongs to. When the connection is lost and the endpoint can be reached again
//! (websocket, Unix socket), the driver resumes the session and fills what was missed (section 15.4).
//!
//! **Back-pressure.** Each process and each body has a queue. Once it holds [`ClientOptions::queue_bytes`], the
//! driver stops reading the socket until its follower takes something, so that a slow follower slows the program
//! and memory stays bounded. While some call waits for its answer, the driver reads on up to
//! [`ClientOptions::queue_bytes_with_calls`]: an answer lies behind at most a socket's worth of output, so a task
//! that calls without draining first does not wait for itself.

mod body;
mod calls;
mod driver;
mod endpoint;
mod environments;
mod handshake;
mod inbox;
mod link;
mod order;
mod process;
mod registry;
#[cfg(test)]
mod relay_tests;
mod relayed;
mod remote;
mod route;
mod schedule;
mod shared;
#[cfg(test)]
mod tests;
mod traffic;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use codex_outgoing::Outgoing;

use crate::environment::MissingState;
use crate::protocol::environment::EnvironmentInfo;
use crate::protocol::{Method, RpcError};

pub use body::Body;
pub use endpoint::{Bearer, Command, Endpoint, Stderr};
pub use environments::{EnvironmentError, Environments, LOCAL};
pub use order::ProcessEvent;
pub use process::{Exit, Process, ProcessControl};
pub use registry::RegistryEnvironment;
pub use remote::Remote;

use calls::Retry;
use driver::Driver;
use shared::Shared;

/// The waits and bounds of a client; the defaults are those of section 16.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Who connects, for the server's logs.
    pub client_name: String,
    /// For the connection and, on a websocket, its upgrade.
    pub connect_time: Duration,
    /// For `initialize` and its answer.
    pub initialize_time: Duration,
    /// After a loss, for as long as this a resume is tried; then everything fails.
    pub recovery_time: Duration,
    /// Between two attempts to resume.
    pub retry_pause: Duration,
    /// Between our pings to a rendezvous, which sits between two connections: only we look after ours.
    pub ping_interval: Duration,
    /// Without anything from a rendezvous for this long, the connection counts as lost.
    pub silence_time: Duration,
    /// Bytes queued for one follower; then the socket is not read.
    pub queue_bytes: usize,
    /// The same while a call waits for its answer.
    pub queue_bytes_with_calls: usize,
    /// Bytes held back behind a missing number; then the gap is reported as lost.
    pub held_bytes: usize,
    /// Requests queued for the socket; then further calls wait.
    pub queued_requests: usize,
    /// For a server that was started as a child, from SIGTERM to SIGKILL.
    pub child_grace: Duration,
    /// Whom TLS trusts, and through which proxies servers, registries and rendezvous are reached.
    pub outgoing: Outgoing,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_name: "codex-environment".into(),
            connect_time: Duration::from_secs(10),
            initialize_time: Duration::from_secs(10),
            recovery_time: Duration::from_secs(25),
            retry_pause: Duration::from_millis(100),
            ping_interval: Duration::from_secs(30),
            silence_time: Duration::from_secs(90),
            queue_bytes: 2 << 20,
            queue_bytes_with_calls: 16 << 20,
            held_bytes: 4 << 20,
            queued_requests: 128,
            child_grace: Duration::from_secs(2),
            outgoing: Outgoing::default(),
        }
    }
}

/// Why a call or a connection failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The server can't be reached, or is none.
    #[error("can't reach the exec-server at {target}: {reason}")]
    Connect {
        /// The address, without secrets.
        target: String,
        /// What went wrong.
        reason: String,
    },
    /// The registry or the executor refused for good: trying again would end the same way.
    #[error("{target} can't be used: {reason}")]
    Refused {
        /// The address, without secrets.
        target: String,
        /// What was said.
        reason: String,
    },
    /// The server asks for a bearer token, and there was none.
    #[error("the exec-server at {target} asks for a bearer token, and none was given")]
    TokenWanted {
        /// The address, without secrets.
        target: String,
    },
    /// The server does not take the bearer token: it is another one's, or it has expired.
    #[error("the exec-server at {target} refused the bearer token: it is wrong or has expired")]
    TokenRefused {
        /// The address, without secrets.
        target: String,
    },
    /// A server that was started as a child ended before the handshake. What it said is on its stderr.
    #[error("{target} ended before the handshake with exit code {code}")]
    ChildEnded {
        /// The child.
        target: String,
        /// Its exit code.
        code: i32,
    },
    /// The server did not answer the connection or the handshake in time.
    #[error("the exec-server at {target} did not finish {what} within {after:?}")]
    TimedOut {
        /// The address, without secrets.
        target: String,
        /// `the connection` or `the handshake`.
        what: &'static str,
        /// The wait.
        after: Duration,
    },
    /// The server answered with an error.
    #[error("{0}")]
    Rpc(RpcError),
    /// The connection went before the answer came, and the request may not be repeated or could not be.
    #[error("the connection to the exec-server was lost: {0}")]
    Lost(String),
    /// The answer was not what the protocol says.
    #[error("the exec-server's answer to {method} can't be read: {reason}")]
    Answer {
        /// The method asked.
        method: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Usage(String),
}

/// A connection to an exec-server, with its session. Clones share it; the last one to be dropped ends it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Ends the driver when the last client goes.
struct Owner {
    stop: watch::Sender<bool>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("session_id", &self.shared.session_id()).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects and opens a session (sections 5 and 15.2).
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::TimedOut`] or the server's refusal of `initialize`.
    pub async fn connect(endpoint: Endpoint, options: ClientOptions) -> Result<Self, ClientError> {
        let (outgoing, queue) = mpsc::channel(options.queued_requests.max(1));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared::new(outgoing, options));
        let driver = Driver::connect(Arc::clone(&shared), endpoint, queue, stopped).await?;
        let driver = tokio::spawn(driver.run());
        Ok(Self { shared, owner: Arc::new(Owner { stop, driver }) })
    }

    /// Calls a method and waits for its answer.
    ///
    /// `process/read`, `process/terminate` and `process/write` with a `writeId` are repeated after a resume; others
    /// that were under way fail with [`ClientError::Lost`].
    ///
    /// # Errors
    /// The server's error answer, or the loss of the connection.
    pub async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, ClientError> {
        self.shared.call::<M>(params, Retry::of::<M>(params)).await
    }

    /// The session's id.
    pub fn session_id(&self) -> String {
        self.shared.session_id()
    }

    /// What the server said of its machine in the handshake; none from servers before 0.169.
    pub fn environment_info(&self) -> Option<EnvironmentInfo> {
        self.shared.environment_info()
    }

    /// Tells which `fs/watchMissing` fired last, and whether a loss of the connection ended them all.
    pub fn missing_changed(&self) -> watch::Receiver<MissingState> {
        self.shared.missing.subscribe()
    }

    /// Whether the connection has ended for good: every call fails from now on.
    pub fn has_ended(&self) -> bool {
        *self.shared.finished.borrow() || self.owner.driver.is_finished()
    }

    /// Ends the connection: sends what is queued and, for a server started as a child, ends that child. Other
    /// clones fail with [`ClientError::Lost`] from now on.
    pub async fn close(self) {
        self.owner.stop.send_replace(true);
        let mut finished = self.shared.finished.subscribe();
        // Only fails when the sender is gone, and the shared state holds it.
        let _ = finished.wait_for(|finished| *finished || self.owner.driver.is_finished()).await;
    }
}
