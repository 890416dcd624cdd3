//! What the executor's side has to act on, and what it is told of it.

use bytes::Bytes;
use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;

use crate::stream_id::{StreamId, StreamKey};

/// What the executor's side has to act on.
#[derive(Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// Noise: the registry is to be asked (6.3); the answer goes to [`crate::ExecutorStreams::validated`].
    Validate(Handshake),
    /// A new JSON-RPC connection.
    Opened {
        /// Its key from now on.
        stream: StreamKey,
        /// Its name, for logs.
        id: StreamId,
    },
    /// One JSON-RPC message for an opened stream.
    Message {
        /// The stream that the message came on.
        stream: StreamKey,
        /// UTF-8, one JSON object.
        message: Bytes,
    },
    /// A stream that had no room for more messages has it again.
    Room {
        /// The stream that has room again.
        stream: StreamKey,
    },
    /// The harness has taken every data frame up to this one, which counts from 1; with 0 it says that it acks.
    Acked {
        /// The stream whose frames were taken.
        stream: StreamKey,
        /// How many data frames the harness has taken since the stream was opened.
        frames: u64,
    },
    /// A stream ended from the other side, or a handshake is not wanted any more: end its connection, or stop asking.
    Closed {
        /// Which one; its key means nothing from now on.
        stream: StreamKey,
    },
}

/// A handshake that waits for the registry's word.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The key under which the stream will be opened.
    pub stream: StreamKey,
    /// The name that the harness gave to the stream.
    pub id: StreamId,
    /// Who shakes hands; proved by the handshake.
    pub harness_public_key: PublicKey,
    /// What the harness brought; only the registry can judge it.
    pub authorization: Secret,
}

/// What the registry said of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `{"valid":true}`.
    Valid,
    /// Anything else, no answer included.
    Invalid,
    /// 401: our own credential was refused; the harness is told so (section 7).
    CredentialRefused,
}
