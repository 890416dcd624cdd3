//! Runs programs on pipes or a terminal, and keeps their output.

mod launch;
pub mod log;
mod news;
mod pump;
mod record;
mod stdin;
mod table;
mod write_memory;

pub use launch::Host;
pub use log::{Event, Exit, OutputLog, Seq};
pub use news::News;
pub use record::{Process, Written};
pub use table::{Leftovers, ProcessTable, Reserved};
