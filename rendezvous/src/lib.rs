//! A registry and rendezvous of one's own: brings executors and harnesses together without reading what they say.
//!
//! [`Rendezvous::start`] runs both in one process, on one port. The registry's calls (register, connect, validate)
//! and the websocket's upgrade are HTTP; a socket's frames then pass through the [`switch`] as they are. Section
//! numbers in the docs of this crate mean `docs/remote.md`.

mod acceptor;
pub mod accounts;
mod app;
mod attach;
pub mod audit;
mod clock;
pub mod cluster;
pub mod file;
mod http;
pub mod limits;
pub mod metrics;
pub mod node_id;
pub mod outlet;
pub mod quota;
pub mod registry;
pub mod server;
pub mod socket;
pub mod status;
pub mod store;
pub mod switch;
mod threads;
pub mod ticket;
pub mod tokens;
pub mod websocket;

pub use limits::Limits;
pub use server::{Config, Rendezvous, StartError, TlsFiles, load_tls};
pub use threads::MOST_THREADS;
