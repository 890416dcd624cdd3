//! Lends a machine to a coding agent: programs, files and HTTP, served to and asked of an exec-server.

mod alarm;
mod backoff;
mod bearer;
mod blocking;
mod budget;
pub mod client;
pub mod environment;
mod filesystem;
pub mod http;
pub mod interactive;
mod logs;
pub mod network;
pub mod observe;
mod own_port;
pub mod process;
mod registry;
pub mod remote;
pub mod rpc;
pub mod sandbox;
pub mod server;
mod statx;
mod tcp;
pub mod transfer;
pub mod transport;
pub mod withheld;

pub use codex_exec_protocol as protocol;
pub use codex_limits::server as limits;
pub use limits::Limits;
pub use logs::Logs;

/// The examples of the reference, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/reference.md")]
mod reference {}
