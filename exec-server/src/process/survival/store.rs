//! What keeps things for the next server, and where this server has it.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use codex_children::orphans::Origin;
use rustix::process::Pid;

/// Keeps entries for the next server: numbers, bytes and descriptors, of which it understands nothing.
pub trait Store: fmt::Debug + Send + Sync {
    /// A number for a new entry: never one that was given before, by whichever server.
    fn new_key(&self) -> u64;
    /// Puts an entry, or replaces it whole. The descriptors are duplicated.
    ///
    /// # Errors
    /// When it can't be kept.
    fn put(
        &self,
        key: u64,
        program: Option<(Pid, Origin)>,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()>;
    /// Forgets an entry soon.
    fn forget(&self, key: u64);
    /// Forgets an entry at once: somebody waits for a descriptor to be closed.
    fn forget_now(&self, key: u64);
}
