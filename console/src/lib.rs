//! A web page that shows what runs on all environments: processes, terminals, logs, files and forwards, for people.
//!
//! The page is a client of this crate's small HTTP interface, and this crate is a client of the library: it knows no more of
//! an environment than `codex_exec_server::client` shows. People sign in by links that are good once (`access`).

mod access;
mod app;
mod assets;
mod forwards;
mod http;
mod limits;
mod output;
mod programs;
mod server;
mod terminal;

pub use limits::Limits;
pub use server::{Config, Console, StartError};
