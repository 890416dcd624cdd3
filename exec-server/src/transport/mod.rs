//! Carries text messages: websocket, Unix socket, stdio, in-process; the listener.

pub mod frame;
pub mod reader;

use tokio::io::AsyncWrite;

pub use frame::{FrameBuffer, Framing};
pub use reader::{Event, MessageReader, ReadError};

/// One connection that carries text messages, ready for the server.
pub struct Carrier {
    /// Reads messages and control frames.
    pub reader: MessageReader,
    /// Takes what a [`FrameBuffer`] of `framing` holds.
    pub sink: Box<dyn AsyncWrite + Send + Unpin>,
    /// How messages are told apart on this connection.
    pub framing: Framing,
}
