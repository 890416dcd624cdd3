//! Runs programs on pipes or a terminal, and keeps their output.

mod act;
pub mod child_env;
mod children;
pub(crate) mod confined;
mod denied;
mod groups;
mod launch;
pub mod log;
pub(crate) mod lookup;
mod mark;
mod network;
mod news;
pub mod orphans;
mod output;
pub mod passwd;
pub(crate) mod posix;
mod procfs;
mod pump;
pub mod reap;
mod record;
pub(crate) mod spares;
pub mod spawn;
mod stdin;
mod table;
pub mod terminal;
pub mod tree;
mod vfork;
mod wildcard;
mod write_memory;

#[cfg(test)]
mod tests;

pub(crate) use act::{check_resize, check_write};
pub use groups::Groups;
pub use launch::Host;
pub use log::{Event, Exit, OutputLog, Seq};
pub use news::News;
pub use record::Process;
pub(crate) use record::known;
pub use table::{Leftovers, ProcessTable, Reserved};
