//! Byte streams for clients: connections made from this machine, and ports that are listened on for them.
//!
//! Nothing is read before the client asks for it: each `tcp/read` is credit for one piece, and each `tcp/write` is
//! answered once the system has taken its bytes. So neither side piles up what the other does not take.

mod dial;
mod line;
mod socket;
mod table;

pub(crate) use dial::{connect, listen};
pub(crate) use socket::{Listener, Socket};
pub(crate) use table::Streams;

use std::io;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::sandbox::Sandbox;

/// What the system said, for the client: `-32004` where there is nobody to talk to, `-32603` otherwise.
pub(crate) fn failed(what: &str, error: &io::Error) -> RpcError {
    let text = format!("{what}: {error}");
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotFound
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => RpcError::not_found(text),
        _ => RpcError::internal(text),
    }
}

/// Whether a request may use the network under its sandbox. No kernel stands behind it: this server makes the connection,
/// so whatever restricts the network at all restricts it wholly.
///
/// # Errors
/// `-32600` for a profile whose network is restricted.
pub(crate) fn check_sandbox(sandbox: Option<&Sandbox>) -> Result<(), RpcError> {
    match sandbox {
        Some(sandbox) if !sandbox.allows_network() => Err(RpcError::invalid_request(
            "the sandbox of this request restricts the network, so no stream is made under it; \
             a program's own network leads through its networkProxy",
        )),
        _ => Ok(()),
    }
}
