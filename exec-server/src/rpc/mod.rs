//! Requests, answers and notifications over any transport.

mod asks;
mod outbox;
mod poured;

pub use asks::{Answered, Ask, Asks};
pub use outbox::{InFlight, Message, Outbox, Queued};
pub use poured::{Content, NextBlock, Poured};

use codex_exec_protocol::{Method, RpcError};

/// Decodes a request's params.
///
/// # Errors
/// `-32602` with what did not decode.
pub fn decode<M: Method>(params: &str) -> Result<M::Params, RpcError> {
    serde_json::from_str(params).map_err(|error| RpcError::invalid_params(format!("{}: {error}", M::NAME)))
}
