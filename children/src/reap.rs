//! Learns how a program ended, and lets the kernel forget it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::register;
pub use super::ending::{Ending, How};
use super::list;

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
    if let Some(told) = children.told_end(pid) {
        if told.is_some() {
            children.remove(pid);
        }
        return Ok(told);
    }
    let answer = wait(pid.as_raw_pid()).map(|ended| ended.map(|(_, ending)| ending));
    if !matches!(answer, Ok(None)) {
        children.remove(pid);
    }
    answer
}

/// How a program ended, if it has: it stays to be reaped. So its end can be written down before the kernel forgets it.
///
/// # Errors
/// As [`try_reap`].
pub fn peek(pid: Pid) -> io::Result<Option<Ending>> {
    // Held for the same reason as in `try_reap`.
    let children = list::children();
    if let Some(told) = children.told_end(pid) {
        return Ok(told);
    }
    // SAFETY: both are plain integers, for which all zero is a value.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: both pointers are to live locals. glibc's `waitid` leaves the usage out.
        let asked = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PID,
                pid.as_raw_pid(),
                &raw mut info,
                options,
                &raw mut usage,
            )
        };
        if asked == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: the kernel has filled in those of a child, or left all zero.
    let (ended, status) = unsafe { (info.si_pid() != 0, info.si_status()) };
    let how = if info.si_code == libc::CLD_EXITED { How::Exited(status) } else { How::Killed(status) };
    Ok(ended.then(|| ending(how, info.si_code == libc::CLD_DUMPED, &usage)))
}

/// Reaps a child of this process, whichever has ended. For a process that starts nothing but what it knows.
pub(super) fn reap_any() -> io::Result<Option<(Pid, Ending)>> {
    match wait(-1) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        ended => ended,
    }
}

/// Waits for a program that was killed before anybody watched it. Blocks.
pub fn wait_for_killed(pid: Pid) {
    let _ = rustix::process::waitid(
        rustix::process::WaitId::Pid(pid),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    );
    let _ = try_reap(pid);
}

/// As wait4(2) takes the number.
fn wait(pid: libc::pid_t) -> io::Result<Option<(Pid, Ending)>> {
    let mut status = 0;
    // SAFETY: `rusage` is plain integers, for which all zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let waited = loop {
        // SAFETY: both pointers are to live locals.
        let waited = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if waited >= 0 {
            break waited;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let how = if libc::WIFSIGNALED(status) {
        How::Killed(libc::WTERMSIG(status))
    } else {
        How::Exited(libc::WEXITSTATUS(status))
    };
    let core_dumped = libc::WIFSIGNALED(status) && libc::WCOREDUMP(status);
    Ok(Pid::from_raw(waited).map(|pid| (pid, ending(how, core_dumped, &usage))))
}

fn ending(how: How, core_dumped: bool, usage: &libc::rusage) -> Ending {
    Ending {
        how,
        core_dumped,
        cpu_user: duration(usage.ru_utime),
        cpu_system: duration(usage.ru_stime),
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    }
}

fn duration(time: libc::timeval) -> Duration {
    let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
}
