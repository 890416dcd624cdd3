//! Marks a program in a way that all its descendants inherit, so that an orphan's program can be found.
//!
//! The mark is the soft bound of `RLIMIT_RTTIME`: it passes through fork, exec and setsid, anybody may read it in
//! `/proc/PID/limits`, and the values used here, more than 100,000 years of uninterrupted real-time work, limit nothing. An
//! environment variable would do the same, but a program is promised exactly the environment that was asked for (8.1).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::procfs;

/// Every mark has this bit set, and none above it.
const FIRST: u64 = 1 << 62;

/// The mark of one program and of its descendants, unless one of them removed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark(u64);

/// What all marks of one server share, and those of no other server do: not of one that it runs in, nor of one that a
/// program of it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server(u32);

static SERVER: OnceLock<Server> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The limit that programs inherit from us; `None` when somebody has set one that we must not change.
static INHERITED: LazyLock<Option<Rlimit>> = LazyLock::new(|| {
    let ours = getrlimit(Resource::Rttime);
    (ours.current.is_none_or(|soft| soft >= FIRST) && ours.maximum.is_none()).then_some(ours)
});

/// Held by the start whose mark is our own limit at the moment.
static OURS: Mutex<()> = Mutex::new(());

impl Mark {
    /// Starts a program through `start` with a mark of its own; without one where the system allows none.
    ///
    /// It inherits the mark from us. While another start has our limit in use (its exec may hang), it is marked right after
    /// its start instead, when it has hardly begun.
    pub(super) fn put<E>(start: impl FnOnce() -> Result<Pid, E>) -> Result<(Pid, Option<Self>), E> {
        let Some(inherited) = INHERITED.as_ref() else { return Ok((start()?, None)) };
        let mark = Self(FIRST | Server::own().bits() | u64::from(NEXT.fetch_add(1, Ordering::Relaxed)));
        let marked = Rlimit { current: Some(mark.0), maximum: inherited.maximum };
        if let Some(_alone) = OURS.try_lock()
            && setrlimit(Resource::Rttime, marked).is_ok()
        {
            let started = start();
            // A soft limit that could be raised can be lowered again: the hard limit stays the same.
            let _ = setrlimit(Resource::Rttime, *inherited);
            return Ok((started?, Some(mark)));
        }
        let pid = start()?;
        Ok((pid, prlimit(Some(pid), Resource::Rttime, marked).ok().map(|_| mark)))
    }

    /// The mark of a process, if it has one of this server's.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        Server::own().mark_of(pid)
    }

    /// The mark that has this number, if it is one of this server's.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        (number & FIRST != 0 && number >> 63 == 0).then_some(Self(number))
    }

    /// Which of this server's marks it is: they are numbered in the order of the starts.
    pub(super) const fn sequence(self) -> u32 {
        self.0 as u32
    }

    /// The mark as a number, as the guard is told it.
    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

impl Server {
    /// The server that this process is, together with those before and after it that have the same keeper.
    pub(super) fn own() -> Self {
        *SERVER.get_or_init(|| Self(rand::random::<u32>() >> 2))
    }

    /// What all its marks share.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// Makes this process one of the servers whose marks have this number, of which others have used those below `next`.
    /// To be called before anything is started.
    pub(super) fn continue_as(number: u32, next: u32) {
        let _ = SERVER.set(Self(number));
        NEXT.fetch_max(next, Ordering::Relaxed);
    }

    fn bits(self) -> u64 {
        u64::from(self.0) << 32
    }

    /// The mark of a process, if it has one of this server's.
    pub(super) fn mark_of(self, pid: Pid) -> Option<Mark> {
        let soft = realtime_limit(pid).or_else(|| procfs::realtime_limit(pid))?;
        (soft >> 32 == (FIRST | self.bits()) >> 32).then_some(Mark(soft))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Server {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// Asks the kernel, which answers for processes of the same user even where `/proc` hides them.
fn realtime_limit(pid: Pid) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: nothing is changed, and the answer goes to a live local.
    #[allow(unsafe_code)]
    let asked =
        unsafe { libc::prlimit(pid.as_raw_pid(), libc::RLIMIT_RTTIME, std::ptr::null(), &raw mut limit) };
    (asked == 0).then_some(limit.rlim_cur)
}
