//! Knows each child of this process: the programs that we spawned, and the orphans that we adopted.
//!
//! The kernel keeps one list of children for the whole process, so this is one list for the whole process too. It
//! makes two things certain: a pid is signalled only while its program is not yet reaped, so that it can't be
//! somebody else's by then; and an orphan is never confused with a program that another thread is just starting.
//!
//! An exec may hang in a file system for ever, so nobody waits for a start under way: its child is told from orphans by
//! the thread that it belongs to.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::child_mark::Mark;
use super::ending::Ending;
use super::procfs::{self, StartTime, Stat};

/// What a child that we start is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A program that somebody asked for.
    Program,
    /// The server's own helper, which leaves no orphans.
    Helper,
}

/// The children of which we know what they are.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// Spawned by us, not yet reaped; with the mark of each.
    pub(super) spawned: HashMap<Pid, Option<Mark>>,
    /// Those among `spawned` that are the server's own helpers, and start no other process.
    pub(super) helpers: HashSet<Pid>,
    /// Programs that a waiting helper became, and when it did.
    pub(super) became: HashMap<Pid, StartTime>,
    /// Adopted and reported as some ended program's leftover, not yet reaped; with the session each was in.
    pub(super) claimed: HashMap<Pid, Option<Pid>>,
    /// Adopted and known to belong to a program that still runs, not yet reaped.
    pub(super) daemons: HashMap<Pid, Mark>,
    /// The first processes of PID namespaces, not yet reaped, with the program that each is there for. They only reap, and
    /// end with the last process of their namespace.
    pub(super) inits: HashMap<Pid, Pid>,
    /// Those among `spawned` that a server before this one has started. The keeper waits for them, and tells their ends.
    pub(super) adopted: HashMap<Pid, Adopted>,
    /// Ends that the keeper told before anybody had adopted the program.
    pub(super) early_ends: HashMap<u64, Ending>,
}

/// A program that a server before this one has started.
#[derive(Debug)]
pub(super) struct Adopted {
    /// What the keeper has it under.
    pub(super) key: u64,
    /// None where the kernel gives none.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) end: Option<Ending>,
    /// Readable for others once there is an end.
    pub(super) told: OwnedFd,
}

impl Adopted {
    /// Whether it has ended, as far as can be told: its number may be another's by now.
    fn has_ended(&self) -> bool {
        let ended = |pidfd| {
            let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
            poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
        };
        self.end.is_some() || self.pidfd.as_ref().is_some_and(ended)
    }
}

impl Children {
    /// Whether this child was neither spawned by us nor claimed as an orphan, and is no namespace's first process.
    pub(super) fn is_unclaimed(&self, pid: Pid) -> bool {
        !self.spawned.contains_key(&pid) && !self.claimed.contains_key(&pid) && !self.inits.contains_key(&pid)
    }

    /// The first process of the namespace that a program of ours has, which gets the program's orphans.
    pub(super) fn init_of(&self, program: Pid) -> Option<Pid> {
        self.inits.iter().find_map(|(init, of)| (*of == program).then_some(*init))
    }

    /// Whether this orphan may have been left by a program with this mark.
    pub(super) fn may_be_of(&self, mark: Option<Mark>, pid: Pid) -> bool {
        self.is_unclaimed(pid) && self.daemons.get(&pid).is_none_or(|theirs| Some(*theirs) == mark)
    }

    /// What the keeper has told of the end of a program that was adopted; none for a child of this process.
    #[allow(clippy::option_option, reason = "no program of that kind, or one that has not ended")]
    pub(super) fn told_end(&self, pid: Pid) -> Option<Option<Ending>> {
        self.adopted.get(&pid).map(|adopted| adopted.end)
    }

    /// Whether its orphans come to the keeper, and not to this process.
    pub(super) fn is_adopted(&self, pid: Pid) -> bool {
        self.adopted.contains_key(&pid)
    }

    /// Whether this number may be signalled: that of a child until it is reaped, and that of one that was adopted until it
    /// has ended.
    pub(super) fn may_be_signalled(&self, pid: Pid) -> bool {
        self.spawned.contains_key(&pid) && self.adopted.get(&pid).is_none_or(|adopted| !adopted.has_ended())
    }

    /// Adds what was started. What it is there for is known from its first moment on: an orphan without a mark is nobody's
    /// while another program may have left it.
    pub(super) fn add(&mut self, pid: Pid, mark: Option<Mark>, role: Role) {
        self.forget_orphan(pid);
        self.spawned.insert(pid, mark);
        if role == Role::Helper {
            self.helpers.insert(pid);
        }
    }

    /// What this child is there for.
    pub(super) fn role(&self, pid: Pid) -> Role {
        if self.helpers.contains(&pid) { Role::Helper } else { Role::Program }
    }

    /// Makes a helper count as a program from now on.
    pub(super) fn become_program(&mut self, pid: Pid) {
        self.helpers.remove(&pid);
        self.became.insert(pid, StartTime::now());
    }

    /// Removes a child that was reaped.
    pub(super) fn remove(&mut self, pid: Pid) {
        self.spawned.remove(&pid);
        self.helpers.remove(&pid);
        self.became.remove(&pid);
        if self.adopted.remove(&pid).is_some() {
            self.inits.retain(|_, program| *program != pid);
        }
    }

    /// The earliest time at which this process can have left orphans.
    pub(super) fn start_of(&self, process: &Stat) -> StartTime {
        self.became.get(&process.stamp.pid).copied().unwrap_or(process.stamp.start_time)
    }

    /// Removes an orphan that was reaped.
    pub(super) fn forget_orphan(&mut self, pid: Pid) {
        self.claimed.remove(&pid);
        self.daemons.remove(&pid);
        self.inits.remove(&pid);
    }
}

/// The threads that are starting a program at the moment.
static STARTING: LazyLock<Mutex<HashSet<Pid>>> = LazyLock::new(Mutex::default);
static CHILDREN: LazyLock<Mutex<Children>> = LazyLock::new(Mutex::default);

fn starting() -> MutexGuard<'static, HashSet<Pid>> {
    STARTING.lock()
}

/// Held by a thread from before it spawns until the child is in the list.
#[derive(Debug)]
pub(super) struct SpawnInFlight(Pid);

/// Says that the calling thread is about to start a program.
pub(super) fn spawn_in_flight() -> SpawnInFlight {
    #[cfg(target_os = "linux")]
    let thread = rustix::thread::gettid();
    // Elsewhere no orphans come to us that a child could be taken for.
    #[cfg(not(target_os = "linux"))]
    let thread = rustix::process::getpid();
    starting().insert(thread);
    SpawnInFlight(thread)
}

impl Drop for SpawnInFlight {
    fn drop(&mut self) {
        starting().remove(&self.0);
    }
}

/// Keeps those of our children that no thread is just starting. Keeps none where that can't be told: an orphan is found at
/// the next look, while a program that was taken for an orphan would be lost.
///
/// To be called before the list is read: what was started meanwhile is in it by then.
pub(super) fn settled(mut seen: Vec<Pid>) -> Vec<Pid> {
    let threads: Vec<Pid> = starting().iter().copied().collect();
    for thread in threads {
        // The kernel gives orphans to the main thread; the children of any other thread are those that it started.
        let theirs = (thread != rustix::process::getpid()).then(|| procfs::children_of_thread(thread));
        match theirs {
            Some(Ok(Some(theirs))) => seen.retain(|pid| !theirs.contains(pid)),
            _ => return Vec::new(),
        }
    }
    seen
}

/// The list of children. While the guard is held, no program in it is reaped.
pub(super) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock()
}

/// Says that a helper is about to become a program, whose orphans count from now on.
pub fn becomes_program(pid: Pid) {
    children().become_program(pid);
}
