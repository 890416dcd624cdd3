//! How a program ended.

use std::time::Duration;

/// A program's end and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Whether it exited or was killed by a signal.
    pub how: How,
    /// Whether the kernel wrote a core file.
    pub core_dumped: bool,
    /// CPU time in user mode, of the program and of those descendants that it waited for.
    pub cpu_user: Duration,
    /// CPU time in the kernel, of the same processes.
    pub cpu_system: Duration,
    /// The peak memory of that one among these processes that had the most, in bytes. Never below the server's own peak at
    /// the start: until the exec the child shares the server's memory, and the kernel counts that.
    pub max_rss_bytes: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ending {
    /// The code on the wire (8.6): a signal shows as 128 + its number on pipes, and as 1 on a terminal.
    #[must_use]
    pub fn exit_code(&self, tty: bool) -> i32 {
        match self.how {
            How::Exited(code) => code,
            How::Killed(_) if tty => 1,
            How::Killed(signal) => 128 + signal,
        }
    }

    /// An end of which nothing is known.
    pub const fn unknown() -> Self {
        let (cpu_user, cpu_system) = (Duration::ZERO, Duration::ZERO);
        Self { how: How::Exited(-1), core_dumped: false, cpu_user, cpu_system, max_rss_bytes: 0 }
    }

    /// The signal that killed it; `None` if it exited.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.how {
            How::Exited(_) => None,
            How::Killed(signal) => Some(signal),
        }
    }
}
