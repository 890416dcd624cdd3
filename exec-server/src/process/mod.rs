//! Runs programs on pipes or a terminal, and keeps their output.

mod act;
pub mod child_env;
mod denied;
mod groups;
mod launch;
pub mod log;
mod network;
mod news;
mod output;
pub mod passwd;
mod pump;
mod record;
mod stdin;
mod table;
mod wildcard;
mod write_memory;

pub(crate) use act::{check_resize, check_write};
pub use groups::Groups;
pub use launch::Host;
pub use log::{Event, Exit, OutputLog, Seq};
pub use news::News;
pub use record::Process;
pub(crate) use record::known;
pub use table::{Leftovers, ProcessTable, Reserved};
