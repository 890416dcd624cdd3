//! What the keeper hands on.

use std::os::fd::OwnedFd;

use codex_children::orphans::Origin;
use rustix::process::Pid;

/// A program that the keeper has handed on.
#[derive(Debug)]
pub struct Adopted {
    /// Its process.
    pub pid: Pid,
    /// How its orphans are told from those of others.
    pub origin: Origin,
    /// Readable once [`codex_children::reap::try_reap`] tells how it ended.
    pub exit: OwnedFd,
}

/// An entry that the keeper has handed on.
#[derive(Debug)]
pub struct Handed {
    /// Its number.
    pub key: u64,
    /// What the earlier server wrote.
    pub bytes: Vec<u8>,
    /// Its descriptors, in their order.
    pub descriptors: Vec<OwnedFd>,
    /// The program that it is about.
    pub program: Option<Adopted>,
}
