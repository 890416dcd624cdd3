//! Which of the kernel's children of this process are whose: the programs we spawned and the orphans we adopted.
//!
//! The kernel keeps one list of children for the whole process, so this is one list for the whole process too. It
//! makes two things certain: a pid is signalled only while its program is not yet reaped, so that it can't be
//! somebody else's by then; and an orphan is never confused with a program that another thread is just starting.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::process::Pid;

/// The children that are accounted for.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// Spawned by us, not yet reaped.
    pub(super) spawned: HashSet<Pid>,
    /// Those among them that are the server's own, and start no others.
    pub(super) helpers: HashSet<Pid>,
    /// Adopted and reported as some ended program's leftover, not yet reaped; with the session each was in.
    pub(super) claimed: HashMap<Pid, Option<Pid>>,
}

impl Children {
    /// Neither spawned nor claimed.
    pub(super) fn is_unknown(&self, pid: Pid) -> bool {
        !self.spawned.contains(&pid) && !self.claimed.contains_key(&pid)
    }
}

static SPAWNING: RwLock<()> = RwLock::new(());
static CHILDREN: LazyLock<Mutex<Children>> = LazyLock::new(Mutex::default);

/// Held from before a spawn until its child is in the list.
pub(super) fn spawn_in_flight() -> RwLockReadGuard<'static, ()> {
    SPAWNING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held while a pid that is not in the list must not be a child in the making.
pub(super) fn no_spawn_in_flight() -> RwLockWriteGuard<'static, ()> {
    SPAWNING.write().unwrap_or_else(PoisonError::into_inner)
}

/// The list. While it is held, none of its programs is reaped.
pub(super) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}
