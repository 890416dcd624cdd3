//! What observes a server.

use std::sync::Arc;

use codex_observe::Audit;

use super::figures::Figures;
use super::peer::Peer;
use super::record::Record;
use super::spans::Tracer;

/// What observes a server. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    /// The file that acts are recorded in, if any.
    pub audit: Option<Audit<Record>>,
    /// What is counted, if anything.
    pub figures: Option<Arc<Figures>>,
    /// Who makes a span of each request, if anybody.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// The environment that is lent, where it has an id: with a registry.
    pub environment: Option<Arc<str>>,
}

impl Observer {
    /// Whether nobody looks.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.audit.is_none() && self.figures.is_none() && self.tracer.is_none()
    }

    /// Records a connection that was not let in, if there is an audit file.
    pub(crate) fn refused(&self, peer: Peer, why: &'static str) {
        if let Some(audit) = &self.audit {
            audit.note(Record::refused(peer, why));
        }
    }

    /// Whether there is something to wait for at the end.
    pub(crate) fn has_last_words(&self) -> bool {
        self.audit.is_some() || self.tracer.is_some()
    }

    /// Waits, for a bounded time, until the audit file has everything and the spans are sent. Blocks.
    pub(crate) fn flush(&self) {
        if let Some(tracer) = &self.tracer {
            tracer.finish();
        }
        if let Some(audit) = &self.audit {
            audit.flush();
        }
    }
}
