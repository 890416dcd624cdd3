//! Marks a program in a way that all its descendants inherit, so that an orphan can be told to be whose.
//!
//! The mark is the soft bound of `RLIMIT_RTTIME`: it passes through fork, exec and setsid, anybody may read it in
//! `/proc/PID/limits`, and its values here, more than 100,000 years of uninterrupted real-time work, bound nothing. An
//! environment variable would do the same, but programs are promised exactly the environment that was asked for (8.1).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::procfs;

/// Marks have this bit, and none above.
const FIRST: u64 = 1 << 62;

/// One program and its descendants, unless one of them took the mark off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark(u64);

/// What the marks of one server have in common, apart from those of any other that runs in a program of it or that it runs
/// in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server(u32);

static SERVER: LazyLock<Server> = LazyLock::new(|| Server(rand::random::<u32>() >> 2));
static NEXT: AtomicU32 = AtomicU32::new(0);

/// What programs get from us; `None` when somebody has set a bound that is not to be touched.
static INHERITED: LazyLock<Option<Rlimit>> = LazyLock::new(|| {
    let ours = getrlimit(Resource::Rttime);
    (ours.current.is_none_or(|soft| soft >= FIRST) && ours.maximum.is_none()).then_some(ours)
});

/// Held by the start whose mark our own limit carries.
static OURS: Mutex<()> = Mutex::new(());

impl Mark {
    /// Starts a program through `start` with a mark of its own; none where it can't be marked.
    ///
    /// It inherits the mark from us. While another start does that (its exec may hang), it is marked right behind the
    /// start instead, when it has hardly begun.
    pub(super) fn put<E>(start: impl FnOnce() -> Result<Pid, E>) -> Result<(Pid, Option<Self>), E> {
        let Some(inherited) = INHERITED.as_ref() else { return Ok((start()?, None)) };
        let mark = Self(FIRST | SERVER.bits() | u64::from(NEXT.fetch_add(1, Ordering::Relaxed)));
        let marked = Rlimit { current: Some(mark.0), maximum: inherited.maximum };
        if let Some(_alone) = OURS.try_lock()
            && setrlimit(Resource::Rttime, marked).is_ok()
        {
            let started = start();
            // What could be raised to the mark can be put back, since the hard bound stays.
            let _ = setrlimit(Resource::Rttime, *inherited);
            return Ok((started?, Some(mark)));
        }
        let pid = start()?;
        Ok((pid, prlimit(Some(pid), Resource::Rttime, marked).ok().map(|_| mark)))
    }

    /// The mark of a process, if it has one of this server's.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        SERVER.mark_of(pid)
    }

    /// The mark as it is passed on.
    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

impl Server {
    /// The stamp of this process.
    pub(super) fn own() -> Self {
        *SERVER
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

/// Asks the kernel, which tells of a process of the same user even where `/proc` hides it.
fn realtime_limit(pid: Pid) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: nothing is changed, and the answer goes to a live local.
    #[allow(unsafe_code)]
    let asked =
        unsafe { libc::prlimit(pid.as_raw_pid(), libc::RLIMIT_RTTIME, std::ptr::null(), &raw mut limit) };
    (asked == 0).then_some(limit.rlim_cur)
}
