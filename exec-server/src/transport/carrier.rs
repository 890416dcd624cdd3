//! A connection, whatever carries it.

use tokio::io::AsyncWrite;

use super::frame::Framing;
use super::reader::MessageReader;

/// One connection that carries text messages, ready for the server.
pub struct Carrier {
    /// Reads messages and control frames.
    pub reader: MessageReader,
    /// Takes what a [`FrameBuffer`] of `framing` holds.
    pub sink: Box<dyn AsyncWrite + Send + Unpin>,
    /// How messages are told apart on this connection.
    pub framing: Framing,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("framing", &self.framing).finish_non_exhaustive()
    }
}
