//! Sets what signals mean to this process, whatever it inherited from the process that started it.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::register;

/// SIGCHLD as a descriptor to read (signalfd(2)). A handler would interrupt the server at each program's end, only to note
/// it; this one wakes nobody until it is read.
#[derive(Debug)]
pub struct ChildSignals(OwnedFd);

/// Makes the kernel keep the exit codes of children, and report their ends through what is returned. For the binary, at its
/// start, before it has a second thread, which could take the signal away. The process that started it may have set SIGCHLD
/// to be ignored; the kernel then throws exit codes away.
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
    /// Waits until a child has ended since the last call. Cancel-safe.
    ///
    /// # Errors
    /// When the event loop is gone.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut record)?)).await?;
        Ok(())
    }
}

/// Unblocks all signals. The process that started this one may have blocked some, and a blocked SIGTERM would never end us.
/// For the binary, at its start, before it has a second thread.
pub fn unblock() {
    // SAFETY: the set is filled before it is read, and no handler of ours is there to be run.
    unsafe {
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        // It fails only for invalid arguments.
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Makes a write beyond the limit of a file's size (`RLIMIT_FSIZE`) fail with EFBIG instead of ending this process. For the
/// binary, at its start; programs start with nothing ignored.
pub fn survive_large_files() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether SIGHUP was set to be ignored, as nohup does, so that this process outlives its terminal. For the binary, at its
/// start, before it listens for the signal.
#[must_use]
pub fn ignores_hangup() -> bool {
    // SAFETY: `sigaction` is plain data, for which all zero is a value, and is only written to.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}
