//! What a connection gives to whoever reads it.

use codex_websocket::FrameError;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerEvent<'a> {
    /// One whole message, text or binary (they are treated alike).
    Message(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong with its payload.
    Pong(&'a [u8]),
    /// A close frame with its code, to be answered.
    Close(Option<u16>),
    /// The peer is gone, or has said everything.
    End,
}

/// Why a connection can't be read any further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system reported an error of the socket.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// A frame, message or line over its bound.
    #[error("{what} of more than {limit} bytes")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// The longest message that is taken, in bytes.
        limit: usize,
    },
    /// Not a websocket frame that a client may send.
    #[error("websocket protocol error: {0}")]
    Protocol(#[from] FrameError),
}
