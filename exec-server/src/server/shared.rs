//! What all connections of a server share.

use std::sync::Arc;

use codex_exec_protocol::environment::EnvironmentInfo;
use tokio::sync::watch;

use super::session::Sessions;
use crate::environment::LocalConfig;
use crate::environment::machine::Common;
use crate::observe::Observer;

/// The machine that is lent, the sessions on it, and whether that goes on.
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) sessions: Arc<Sessions>,
    /// Whether connections go on.
    pub(super) stopping: watch::Sender<Stopping>,
    /// Who looks on.
    pub(super) observer: Observer,
}

/// Whether a server's connections go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopping {
    /// They do.
    No,
    /// Another server takes this one's place: clients are to come back to it.
    Restart,
    /// The server ends.
    End,
}

impl Shared {
    /// Without sessions; does no I/O.
    pub(super) fn new(config: LocalConfig, observer: Observer) -> Self {
        let common = Common::new(config);
        let sessions = Arc::new(Sessions::new(Arc::clone(&common)));
        Self { common, sessions, stopping: watch::Sender::new(Stopping::No), observer }
    }

    /// What this machine is.
    pub(super) fn info(&self) -> &EnvironmentInfo {
        &self.common.info
    }
}
