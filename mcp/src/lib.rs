//! Lends environments to agents that speak the Model Context Protocol: programs, files and HTTP of a machine as tools.
//!
//! It stands on the client library alone: an environment may be this machine or one behind a rendezvous. Both revisions of
//! the protocol are spoken, that with sessions (2025-11-25 and before) and that without (2026-07-28): the state of a program
//! hangs on its id, which is an argument, so another client goes on where one stopped.

#[cfg(feature = "behind")]
pub mod behind;
mod catalog;
mod environments;
mod http;
mod lent;
mod limits;
mod lines;
mod looks;
mod outcome;
mod places;
mod print_config;
mod server;
mod stdio;
mod tasks;
#[cfg(test)]
mod tests;
mod tools;

pub use environments::Environments;
pub use http::{HttpAccess, serve_http};
pub use limits::Limits;
pub use places::Confinement;
pub use print_config::{Agent, Way, print_config};
pub use server::Lender;
pub use stdio::{ServeError, serve_stdio};
