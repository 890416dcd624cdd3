//! Carries text messages: websocket, Unix socket, stdio, in-process, virtual stream; the listener.

pub mod address;
pub mod auth;
pub mod frame;
mod http;
mod jwt;
pub mod listener;
pub mod memory;
pub mod reader;
mod socket_file;
pub mod stdio;
pub mod stream;

use tokio::io::AsyncWrite;

pub use address::{AddressError, ListenAddress};
pub use auth::{Auth, AuthConfig, AuthError};
pub use frame::{FrameBuffer, Framing};
pub(crate) use listener::TOKEN_WANTED;
pub use listener::{BindError, Listener, Pending};
pub use reader::{Event, MessageReader, ReadError};
pub use stream::{Inlet, Outbound, Outlet, StreamBounds};

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

/// For fuzzing: what a listener that lets everybody in answers to the first bytes of a connection, and how many of them
/// that answers; none as long as it waits for more.
#[cfg(feature = "fuzzing")]
pub fn first_answer(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    match http::respond(bytes, &Auth::open(), std::time::SystemTime::UNIX_EPOCH) {
        http::Outcome::Upgrade { answer, head } | http::Outcome::Answer { answer, head } => {
            Some((answer, head))
        }
        http::Outcome::Partial => None,
    }
}
