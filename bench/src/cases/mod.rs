//! The cases: each measures one server, and the machine's limit in turn with it.

mod agents;
mod cluster;
mod discovery;
mod files;
mod idle;
mod latency;
mod leftovers;
mod login;
mod memory;
mod people;
mod remote;
mod sandbox;
mod soak;
mod spawn;
mod startup;
mod terminal;
mod throughput;

use anyhow::Result;

use crate::report::Row;
use crate::server::ServerCommand;

/// What a case is given.
pub struct Context<'a> {
    /// The server to start.
    pub server: &'a ServerCommand,
    /// Fewer rounds, less data.
    pub quick: bool,
    /// Where the randomness of a case begins.
    pub seed: u64,
    /// Cuts of the soak, when their number was given.
    pub cuts: Option<u32>,
}

impl Context<'_> {
    /// `full`, or `quick` when asked for.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// A named case.
pub type Case = (&'static str, fn(&Context<'_>) -> Result<Vec<Row>>);

/// All cases, in the order in which they run.
pub const ALL: &[Case] = &[
    ("startup", startup::run),
    ("spawn", spawn::run),
    ("terminal", terminal::run),
    ("pipe", throughput::pipe),
    ("pty", throughput::pty),
    ("lines", throughput::lines),
    ("files", files::run),
    ("discovery", discovery::run),
    ("login", login::run),
    ("mcp", agents::mcp),
    ("sdk", agents::sdk),
    ("latency", latency::long_poll),
    ("stall", latency::stalled_reader),
    ("memory", memory::run),
    ("leftovers", leftovers::run),
    ("sandbox", sandbox::run),
    ("remote-startup", remote::startup),
    ("remote-keystroke", remote::keystroke),
    ("remote-output", remote::output),
    ("remote-routing", remote::routing),
    ("remote-threads", remote::threads),
    ("cp", people::copy),
    ("port-forward", people::forward),
    ("shell", people::shell),
    ("ssh", people::ssh),
];

/// Cases that take long; they run when their whole name is given.
pub const ON_REQUEST: &[Case] =
    &[("soak", soak::run_soak), ("cluster", cluster::run_cluster), ("idle", idle::run_idle)];

pub use cluster::print_lines;
