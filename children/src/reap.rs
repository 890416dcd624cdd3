//! Learns how a program ended, and lets the kernel forget it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::register;
use super::list;

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

/// Makes it possible to wait until a descriptor can be read or written. In a tokio runtime only.
///
/// # Errors
/// When the kernel can't watch it (regular files), or its watch limit is reached.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE | Interest::WRITABLE)
}

/// Waits for the program's end and reaps it. `pidfd` is that of [`super::spawn::Child`], through [`watch`].
///
/// # Errors
/// As [`try_reap`].
pub async fn reap(pidfd: &AsyncFd<OwnedFd>, pid: Pid) -> io::Result<Ending> {
    loop {
        let mut ready = pidfd.readable().await?;
        if let Some(ending) = try_reap(pid)? {
            return Ok(ending);
        }
        ready.clear_ready();
    }
}

/// Reaps the program if it has ended. Only this one is waited for, never "any child": the host program may have others.
///
/// # Errors
/// When `pid` is no child: it was reaped before, or SIGCHLD is ignored ([`super::signals::keep_endings`]).
pub fn try_reap(pid: Pid) -> io::Result<Option<Ending>> {
    // Held during the wait, so that nobody signals the pid after the kernel has freed it and before we know.
    let mut children = list::children();
    let answer = wait(pid);
    if !matches!(answer, Ok(None)) {
        children.remove(pid);
    }
    answer
}

/// Waits for a program that was killed before anybody watched it. Blocks.
pub fn wait_for_killed(pid: Pid) {
    let _ = rustix::process::waitid(
        rustix::process::WaitId::Pid(pid),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    );
    let _ = try_reap(pid);
}

fn wait(pid: Pid) -> io::Result<Option<Ending>> {
    let mut status = 0;
    // SAFETY: `rusage` is plain integers, for which all zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let waited = loop {
        // SAFETY: both pointers are to live locals.
        let waited = unsafe { libc::wait4(pid.as_raw_pid(), &raw mut status, libc::WNOHANG, &raw mut usage) };
        if waited >= 0 {
            break waited;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    Ok((waited != 0).then(|| Ending {
        how: if libc::WIFSIGNALED(status) {
            How::Killed(libc::WTERMSIG(status))
        } else {
            How::Exited(libc::WEXITSTATUS(status))
        },
        core_dumped: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
        cpu_user: duration(usage.ru_utime),
        cpu_system: duration(usage.ru_stime),
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    }))
}

fn duration(time: libc::timeval) -> Duration {
    let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
}
