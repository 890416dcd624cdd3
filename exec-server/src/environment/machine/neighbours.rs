//! The sessions beside one's own, as far as a party may see them.

use std::sync::Arc;

use codex_exec_protocol::SessionId;

use crate::process::ProcessTable;

/// One session beside one's own, or one's own.
pub(crate) struct Neighbour {
    pub(crate) session: SessionId,
    /// Whether it has a connection.
    pub(crate) attached: bool,
    pub(crate) processes: Arc<ProcessTable>,
}

/// Tells of the sessions that a party may see.
pub(crate) trait Neighbours: Send + Sync {
    /// The programs of a session; none when it is unknown or not to be seen.
    fn processes(&self, session: &str) -> Option<Arc<ProcessTable>>;

    /// All of them, in the order in which they were made.
    fn all(&self) -> Vec<Neighbour>;
}

/// Who has no neighbours: one party alone.
pub(crate) struct Alone;

impl Neighbours for Alone {
    fn processes(&self, _: &str) -> Option<Arc<ProcessTable>> {
        None
    }

    fn all(&self) -> Vec<Neighbour> {
        Vec::new()
    }
}
