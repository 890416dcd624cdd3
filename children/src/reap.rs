//! Learns how a program ended, and lets the kernel forget it.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::register;
use super::list;

/// A program's end and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// By itself or by a signal.
    pub how: How,
    /// The kernel wrote a core file.
    pub core_dumped: bool,
    /// Time on a CPU in the program's own code, with that of its descendants that it waited for.
    pub cpu_user: Duration,
    /// The same, in the kernel.
    pub cpu_system: Duration,
    /// The largest of its and those descendants' peak memory, in bytes. Never below the server's own peak at the
    /// start: until the exec the child shares the server's memory, and the kernel counts that.
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

    /// An end that nobody knows anything of.
    pub const fn unknown() -> Self {
        let (cpu_user, cpu_system) = (Duration::ZERO, Duration::ZERO);
        Self { how: How::Exited(-1), core_dumped: false, cpu_user, cpu_system, max_rss_bytes: 0 }
    }

    /// The signal that killed it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.how {
            How::Exited(_) => None,
            How::Killed(signal) => Some(signal),
        }
    }
}

/// Makes a descriptor awaitable, for readiness to read and to write. In a tokio runtime only.
///
/// # Errors
/// When the kernel can't watch it (regular files), or its watch limit is reached.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    super::descriptor::register(fd, tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE)
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
/// When `pid` is no child: it was reaped before, or SIGCHLD is ignored ([`keep_endings`]).
pub fn try_reap(pid: Pid) -> io::Result<Option<Ending>> {
    // Held over the wait, so that nobody signals the pid between its release by the kernel and by us.
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

/// SIGCHLD as something to read. A handler would interrupt the server at each program's end, only to write down that it
/// did; this wakes nobody between two looks (signalfd(2)).
#[derive(Debug)]
pub struct ChildSignals(OwnedFd);

/// Makes the kernel keep the endings of children, and tell of them in what is returned. For the binary, at its start,
/// before it has a second thread, which could take the signal away: whoever started it may have set SIGCHLD to be
/// ignored, and then exit codes are thrown away.
///
/// SIGCHLD is blocked from then on. Programs of ours start with nothing blocked; what the standard library starts
/// inherits it.
///
/// # Errors
/// When there are no more descriptors.
pub fn keep_endings() -> io::Result<ChildSignals> {
    // SAFETY: no handler of ours is replaced, for it is called before any is set; the set is filled before it is read;
    // the descriptor is new and nobody else's.
    unsafe {
        if libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        let mut only = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), libc::SIGCHLD);
        let refused = libc::pthread_sigmask(libc::SIG_BLOCK, only.as_ptr(), std::ptr::null_mut());
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        match libc::signalfd(-1, only.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(ChildSignals(OwnedFd::from_raw_fd(fd))),
        }
    }
}

impl ChildSignals {
    /// Listens in the event loop of the current runtime.
    ///
    /// # Errors
    /// When the event loop can't watch another descriptor.
    pub fn listen(self) -> io::Result<ChildEnds> {
        Ok(ChildEnds(register(self.0, Interest::READABLE)?))
    }
}

/// Tells that children have ended.
#[derive(Debug)]
pub struct ChildEnds(AsyncFd<OwnedFd>);

impl ChildEnds {
    /// Waits until one has since the last time. Cancel-safe.
    ///
    /// # Errors
    /// When the event loop is gone.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut record)?)).await?;
        Ok(())
    }
}

/// Whether whoever started this process wants it to outlive its terminal, as nohup does. For the binary, at its start,
/// before it listens for the signal.
#[must_use]
pub fn ignores_hangup() -> bool {
    // SAFETY: `sigaction` is plain data, for which all zero is a value, and is only written to.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}
