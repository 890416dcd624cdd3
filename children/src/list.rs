//! Which of the kernel's children of this process are whose: the programs we spawned and the orphans we adopted.
//!
//! The kernel keeps one list of children for the whole process, so this is one list for the whole process too. It
//! makes two things certain: a pid is signalled only while its program is not yet reaped, so that it can't be
//! somebody else's by then; and an orphan is never confused with a program that another thread is just starting.
//!
//! An exec may hang in a file system for good, so nobody waits for a start that goes on: its child is told from
//! orphans by the thread that it belongs to.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};
use rustix::process::Pid;

use super::child_mark::Mark;
use super::procfs::{self, StartTime, Stat};

/// The children that are accounted for.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// Spawned by us, not yet reaped; with the mark of each.
    pub(super) spawned: HashMap<Pid, Option<Mark>>,
    /// Those among the spawned that are the server's own, and start no others.
    pub(super) helpers: HashSet<Pid>,
    /// Programs that began as a helper which was there before, and when that was.
    pub(super) became: HashMap<Pid, StartTime>,
    /// Adopted and reported as some ended program's leftover, not yet reaped; with the session each was in.
    pub(super) claimed: HashMap<Pid, Option<Pid>>,
    /// Adopted and known to be a running program's, not yet reaped.
    pub(super) daemons: HashMap<Pid, Mark>,
}

impl Children {
    /// Neither spawned nor claimed.
    pub(super) fn is_unclaimed(&self, pid: Pid) -> bool {
        !self.spawned.contains_key(&pid) && !self.claimed.contains_key(&pid)
    }

    /// An orphan that may be one that a program with this mark has left.
    pub(super) fn may_be_of(&self, mark: Option<Mark>, pid: Pid) -> bool {
        self.is_unclaimed(pid) && self.daemons.get(&pid).is_none_or(|theirs| Some(*theirs) == mark)
    }

    /// A program was started.
    pub(super) fn add(&mut self, pid: Pid, mark: Option<Mark>) {
        self.forget_orphan(pid);
        self.spawned.insert(pid, mark);
    }

    /// A helper becomes a program.
    pub(super) fn become_program(&mut self, pid: Pid) {
        self.helpers.remove(&pid);
        self.became.insert(pid, StartTime::now());
    }

    /// A child was reaped.
    pub(super) fn remove(&mut self, pid: Pid) {
        self.spawned.remove(&pid);
        self.helpers.remove(&pid);
        self.became.remove(&pid);
    }

    /// Since when a process can have left orphans.
    pub(super) fn start_of(&self, process: &Stat) -> StartTime {
        self.became.get(&process.stamp.pid).copied().unwrap_or(process.stamp.start_time)
    }

    /// There is no such orphan any more.
    pub(super) fn forget_orphan(&mut self, pid: Pid) {
        self.claimed.remove(&pid);
        self.daemons.remove(&pid);
    }
}

/// The threads that are starting a program.
static STARTING: LazyLock<Mutex<HashSet<Pid>>> = LazyLock::new(Mutex::default);
static CHILDREN: LazyLock<Mutex<Children>> = LazyLock::new(Mutex::default);

fn starting() -> MutexGuard<'static, HashSet<Pid>> {
    STARTING.lock()
}

/// Held from before a spawn until its child is in the list.
#[derive(Debug)]
pub(super) struct SpawnInFlight(Pid);

/// The calling thread starts a program.
pub(super) fn spawn_in_flight() -> SpawnInFlight {
    let thread = rustix::thread::gettid();
    starting().insert(thread);
    SpawnInFlight(thread)
}

impl Drop for SpawnInFlight {
    fn drop(&mut self) {
        starting().remove(&self.0);
    }
}

/// Keeps, of pids that were seen as children of ours before, those that no thread is just starting. When that can't
/// be told, none: an orphan is found at the next look, while a program that was taken for one would be lost.
///
/// To be called before the list is looked at: what was started meanwhile is there by then.
pub(super) fn settled(mut seen: Vec<Pid>) -> Vec<Pid> {
    let threads: Vec<Pid> = starting().iter().copied().collect();
    for thread in threads {
        // The kernel gives orphans to the main thread; the children of another are only what it started.
        let theirs = (thread != rustix::process::getpid()).then(|| procfs::children_of_thread(thread));
        match theirs {
            Some(Ok(Some(theirs))) => seen.retain(|pid| !theirs.contains(pid)),
            _ => return Vec::new(),
        }
    }
    seen
}

/// The list. While it is held, none of its programs is reaped.
pub(super) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock()
}

/// Marks a child as the server's own helper, which leaves no orphans.
pub fn is_helper(pid: Pid) {
    children().helpers.insert(pid);
}

/// A helper is about to become a program, whose orphans count from now on.
pub fn becomes_program(pid: Pid) {
    children().become_program(pid);
}
