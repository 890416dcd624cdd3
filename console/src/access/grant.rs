//! What one link allows: a role, what it is for, and until when.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// See processes, terminals and logs.
    Look,
    /// Also type, start, signal, and read and write files.
    Type,
    /// Also forward ports, and make and revoke links.
    Own,
}

/// What somebody may do it with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "of", deny_unknown_fields)]
pub(crate) enum Scope {
    /// Every environment.
    All,
    /// One environment.
    Environment {
        /// Its name.
        environment: String,
    },
    /// One process.
    Process {
        /// The name of its environment.
        environment: String,
        /// Its session.
        session: String,
        /// Its id within the session.
        process: String,
    },
}

/// What one link, and the session that it was exchanged for, allows.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Names it to who may revoke it; opens nothing.
    pub(crate) id: u64,
    /// What people call it.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) scope: Scope,
    /// It is good until then.
    pub(crate) expires: Instant,
    ended: watch::Sender<bool>,
}

impl Grant {
    pub(super) fn new(id: u64, name: String, role: Role, scope: Scope, expires: Instant) -> Self {
        Self { id, name, role, scope, expires, ended: watch::Sender::new(false) }
    }

    /// The same grant, good until another time.
    pub(super) fn until(&self, expires: Instant) -> Self {
        Self::new(self.id, self.name.clone(), self.role, self.scope.clone(), expires)
    }

    /// It is good no longer.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until it is good no longer: revoked, signed out or expired.
    pub(crate) async fn over(&self) {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            // Fails only when the sender is gone, and this holds it.
            _ = ended.wait_for(|ended| *ended) => {}
            () = tokio::time::sleep_until(self.expires.into()) => {}
        }
    }

    /// Whether anything of this environment may be seen.
    pub(crate) fn reaches(&self, name: &str) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Environment { environment } | Scope::Process { environment, .. } => environment == name,
        }
    }

    /// Whether it is for the whole of this environment.
    pub(crate) fn covers(&self, name: &str) -> bool {
        !matches!(self.scope, Scope::Process { .. }) && self.reaches(name)
    }

    /// Whether this process may be seen.
    pub(crate) fn sees(&self, name: &str, session_id: &str, process_id: &str) -> bool {
        match &self.scope {
            Scope::Process { environment, session, process } => {
                environment == name && session == session_id && process == process_id
            }
            _ => self.reaches(name),
        }
    }
}
