//! Sessions: what outlives a connection, and the table of all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use codex_exec_protocol::{ErrorCode, RpcError, SessionId};
use tokio::sync::Notify;

use super::life::{ConnectionId, Life, Refusal};
use crate::environment::machine::Common;
use crate::process::ProcessTable;

/// One session: an unguessable id and the processes it owns.
pub(super) struct Session {
    id: SessionId,
    pub(super) processes: Arc<ProcessTable>,
    life: Mutex<Life>,
    /// Sets off a ping on the connection that has the session.
    pub(super) challenge: Notify,
}

impl Session {
    /// The id that resumes it.
    pub(super) fn id(&self) -> &SessionId {
        &self.id
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All sessions of a server.
pub(super) struct Sessions {
    by_id: Mutex<HashMap<SessionId, Arc<Session>>>,
    common: Arc<Common>,
}

impl Sessions {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { by_id: Mutex::default(), common }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a session for a connection.
    ///
    /// # Errors
    /// `-32600` when there are too many.
    pub(super) fn create(&self, connection: ConnectionId) -> Result<Arc<Session>, RpcError> {
        let mut sessions = self.lock();
        if sessions.len() >= self.common.limits.session.sessions {
            return Err(RpcError::invalid_request(format!(
                "this server already has {} sessions, the most it may have; try again when one has ended",
                sessions.len()
            )));
        }
        let session = Arc::new(Session {
            id: uuid::Uuid::new_v4().to_string().into(),
            processes: self.common.processes(),
            life: Mutex::new(Life::new(connection, self.common.limits.session.detached_time)),
            challenge: Notify::new(),
        });
        session.processes.attach();
        sessions.insert(session.id.clone(), Arc::clone(&session));
        Ok(session)
    }

    /// Gives a detached session to a connection.
    ///
    /// # Errors
    /// `-32600` for an unknown or ended one; `-32010` for one that is attached, whose connection is then challenged.
    pub(super) fn resume(&self, id: &str, connection: ConnectionId) -> Result<Arc<Session>, RpcError> {
        let unknown = || RpcError::invalid_request(format!("unknown session id {id}"));
        let session = self.lock().get(id).map(Arc::clone).ok_or_else(unknown)?;
        match session.life().attach(connection, Instant::now()) {
            Ok(()) => {}
            Err(Refusal::Ended) => return Err(unknown()),
            Err(Refusal::Attached) => {
                session.challenge.notify_one();
                return Err(RpcError::new(
                    ErrorCode::SESSION_ATTACHED,
                    format!("session {id} is attached to another connection; try again"),
                ));
            }
        }
        session.processes.attach();
        Ok(session)
    }

    /// A connection is gone: its session waits for a resume, and ends when none comes in time.
    pub(super) fn detach(self: &Arc<Self>, session: &Arc<Session>, connection: ConnectionId) {
        let since = Instant::now();
        let Some(deadline) = session.life().detach(connection, since) else { return };
        session.processes.detach();
        let (sessions, session) = (Arc::clone(self), Arc::clone(session));
        // Ends by itself at the deadline; a resumed session makes it stop earlier.
        tokio::spawn(async move {
            let release = since + sessions.common.limits.process.hold_time;
            if release < deadline {
                tokio::time::sleep_until(release.into()).await;
                // Also when it was resumed since: a client that reads nothing of what it missed must not stall
                // programs for ever. A later detachment has a hold and a timer of its own.
                if !session.life().was_detached_after(since) {
                    session.processes.release();
                }
                if !session.life().is_detached_since(since) {
                    return;
                }
            }
            tokio::time::sleep_until(deadline.into()).await;
            if session.life().is_detached_since(since) && session.life().expire(Instant::now()) {
                sessions.lock().remove(&session.id);
                session.processes.end().await;
            }
        });
    }

    /// Ends every session: shutdown.
    pub(super) async fn end(&self) {
        let sessions: Vec<_> = self.lock().drain().map(|(_, session)| session).collect();
        for session in &sessions {
            session.life().end();
        }
        let ends = sessions.iter().map(|session| session.processes.end());
        futures_util::future::join_all(ends).await;
    }
}
