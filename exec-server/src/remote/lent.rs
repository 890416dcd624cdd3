//! What an attached executor lends: a server of this process, or one that runs elsewhere.

use std::sync::Arc;

use super::forward::Forward;
use crate::Limits;
use crate::observe::Figures;
use crate::server::Server;
use crate::transport::Carrier;

/// What the streams of an attachment lead to. Clones lead to the same.
#[derive(Clone)]
pub enum Lent {
    /// A server in this process, which ends with the attachment.
    Server(Arc<Server>),
    /// A server that runs already; its sessions outlive the attachment.
    Forward(Forward),
}

impl Lent {
    /// Where attempts to be attached are counted, if anywhere.
    pub(super) fn figures(&self) -> Option<&Figures> {
        match self {
            Self::Server(server) => server.observer().figures.as_deref(),
            Self::Forward(_) => None,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        match self {
            Self::Server(server) => server.limits(),
            Self::Forward(forward) => forward.limits(),
        }
    }

    /// Serves one stream until it ends.
    pub(super) async fn serve(&self, carrier: Carrier) {
        match self {
            Self::Server(server) => server.serve(carrier).await,
            Self::Forward(forward) => forward.serve(carrier).await,
        }
    }

    /// Whether every session is over when this executor stops.
    pub(super) const fn ends_with_us(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(_) => f.write_str("Server"),
            Self::Forward(forward) => forward.fmt(f),
        }
    }
}
