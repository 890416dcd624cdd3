//! `codex exec-server mcp`: an environment as tools, spoken to by the protocol's own library.

pub(crate) mod behind;
mod confined;
mod environments;
mod files;
mod http;
mod official;
mod programs;
mod tasks;
mod unreadable;
