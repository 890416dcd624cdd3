//! A connection, whatever carries it.

use tokio::io::AsyncWrite;

use super::frame::Framing;
use super::reader::MessageReader;
use crate::observe::Peer;

/// One connection that carries text messages, ready for the server.
pub struct Carrier {
    /// Reads messages and control frames.
    pub reader: MessageReader,
    /// Takes what a [`FrameBuffer`] of `framing` holds.
    pub sink: Box<dyn AsyncWrite + Send + Unpin>,
    /// How messages are told apart on this connection.
    pub framing: Framing,
    /// Whose connection it is.
    pub owner: Owner,
    /// Who is at the other end.
    pub peer: Peer,
}

/// Who a connection belongs to: those of one owner may see each other's sessions. Where one token lets in, or none is asked
/// for, all are one; signed tokens are told apart by their subject, or else each is an owner of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner(pub(super) Option<[u8; 32]>);

impl Owner {
    /// Who is named thus, by the hash of the subject of its tokens; none where all are one.
    pub(crate) const fn of(subject: Option<[u8; 32]>) -> Self {
        Self(subject)
    }

    /// The hash that it is named by.
    pub(crate) const fn subject(&self) -> Option<[u8; 32]> {
        self.0
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("framing", &self.framing).finish_non_exhaustive()
    }
}
