//! Whether a payload is a JSON-RPC message.

use codex_exec_protocol::Incoming;

/// One JSON object with the members of a request, a notification or an answer (4.1).
pub(crate) fn is_message(payload: &[u8]) -> bool {
    Incoming::parse(payload).is_ok()
}
