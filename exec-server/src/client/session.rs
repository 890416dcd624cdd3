//! A connection and the session that it opens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, watch};

use super::calls::Retry;
use super::dial::Endpoint;
use super::driver::Driver;
use super::error::ClientError;
use super::options::ClientOptions;
use super::shared::Shared;
use crate::environment::MissingState;
use crate::protocol::environment::EnvironmentInfo;
use crate::protocol::{Method, SessionId};

/// A connection to an exec-server, with its session. Clones share it; the last one to be dropped ends it.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
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

    /// The id that the server gave to the session.
    pub fn session_id(&self) -> SessionId {
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

    /// Why the connection has ended for good, as a sentence; none while it has not.
    pub fn end_reason(&self) -> Option<String> {
        self.shared.calls.lock().ended().map(str::to_owned)
    }

    /// Tells whether there is a connection at the moment: false from its loss until the session is taken up again, and once
    /// all has ended.
    pub fn linked(&self) -> watch::Receiver<bool> {
        self.shared.linked.subscribe()
    }

    /// Waits until the connection has ended for good.
    pub async fn ended(&self) {
        let mut finished = self.shared.finished.subscribe();
        // Only fails when the sender is gone, and the shared state holds it.
        let _ = finished.wait_for(|finished| *finished).await;
    }

    /// Ends the connection and leaves the session behind, with its programs, for as long as it lives without one.
    pub async fn leave(self) {
        self.shared.leaves.store(true, Ordering::Relaxed);
        self.close().await;
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
