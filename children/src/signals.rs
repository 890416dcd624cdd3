//! Sets what signals mean to this process, whatever it inherited from the process that started it.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
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
    blocked(std::iter::once(libc::SIGCHLD)).map(ChildSignals)
}

/// What asks a keeper for an upgrade.
pub(super) const UPGRADE: Signal = Signal::USR2;

/// The signals that a keeper waits for: ends of children, and those that ask for an end or an upgrade. Blocked from then on, and read one
/// by one (signalfd(2)).
#[derive(Debug)]
pub(super) struct KeeperSignals(OwnedFd);

impl KeeperSignals {
    /// Blocks them. SIGHUP is left alone where it is ignored, as under nohup: blocked, it would be told all the same.
    pub(super) fn block() -> io::Result<Self> {
        let hangup = if ignores_hangup() { None } else { Some(libc::SIGHUP) };
        let all = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR2].into_iter().chain(hangup);
        blocked(all).map(Self)
    }

    /// The next one, if one has come.
    pub(super) fn next(&self) -> io::Result<Option<Signal>> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        match retry_on_intr(|| rustix::io::read(&self.0, &mut record)) {
            // The number comes first (signalfd(2)).
            Ok(_) => {
                let number = record.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number));
                Ok(Signal::from_named_raw(number))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for KeeperSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has the kernel keep the exit codes of children, blocks these signals, and reads them through what is returned.
fn blocked(signals: impl Iterator<Item = libc::c_int>) -> io::Result<OwnedFd> {
    // SAFETY: no handler of ours is replaced, for it is called before any is set; the set is filled before it is read;
    // the descriptor is new and nobody else's.
    unsafe {
        if libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let refused = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
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

/// The signals that ask a program for its end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// A signal that asked this process for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRequest {
    /// SIGHUP, SIGINT, SIGQUIT or SIGTERM.
    pub signal: Signal,
    /// The kernel sent it, as a terminal does for a key or when it hangs up: then everybody else in this process's group
    /// has got it as well.
    pub from_terminal: bool,
}

/// What the handlers write to: lower numbers are given away while something is started.
const HANDLERS_WRITE_FROM: libc::c_int = 64;

/// The signals that ask this process for its end, from now on as something to read.
#[derive(Debug)]
pub struct EndSignals(OwnedFd);

/// From now on, signals that ask for an end don't end this process. Those that whoever started it has set to be ignored, as
/// nohup does, stay ignored. What is started gets all of them as they were.
///
/// # Errors
/// When there are no more descriptors.
pub fn catch_end_requests() -> io::Result<EndSignals> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let reader = fcntl_dupfd_cloexec(reader, HANDLERS_WRITE_FROM)?;
    // For as long as the process runs, as its handlers do.
    let number = fcntl_dupfd_cloexec(writer, HANDLERS_WRITE_FROM)?.into_raw_fd();
    for signal in ENDING.into_iter().filter(|signal| !ignores(signal.as_raw())) {
        let tell = move |info: &libc::siginfo_t| {
            let told = [signal.as_raw().to_le_bytes()[0], u8::from(info.si_code == libc::SI_KERNEL)];
            // SAFETY: writes a live array to a descriptor that stays open. A full pipe holds thousands that nobody has read
            // yet, and one more says nothing new.
            unsafe { libc::write(number, told.as_ptr().cast(), told.len()) };
        };
        // SAFETY: the handler only makes a call that is allowed in one, and keeps errno, as the library does for it.
        unsafe { signal_hook_registry::register_sigaction(signal.as_raw(), tell)? };
    }
    Ok(EndSignals(reader))
}

impl EndSignals {
    /// Listens in the event loop of the current runtime.
    ///
    /// # Errors
    /// When the event loop can't watch another descriptor.
    pub fn listen(self) -> io::Result<EndRequests> {
        Ok(EndRequests(register(self.0, Interest::READABLE)?))
    }
}

/// Tells what asks for an end.
#[derive(Debug)]
pub struct EndRequests(AsyncFd<OwnedFd>);

impl EndRequests {
    /// The next one, however long ago it came. Cancel-safe.
    ///
    /// # Errors
    /// When the event loop is gone.
    pub async fn next(&mut self) -> io::Result<EndRequest> {
        loop {
            let mut told = [0; 2];
            self.0.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut told)?)).await?;
            let [number, from_terminal] = told;
            let signal = ENDING.into_iter().find(|signal| signal.as_raw() == i32::from(number));
            if let Some(signal) = signal {
                return Ok(EndRequest { signal, from_terminal: from_terminal != 0 });
            }
        }
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
    ignores(libc::SIGHUP)
}

/// Whether a signal is ignored by this process now.
fn ignores(signal: libc::c_int) -> bool {
    // SAFETY: `sigaction` is plain data, for which all zero is a value, and is only written to.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}
