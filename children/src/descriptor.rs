//! Hands a file descriptor to the event loop.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Takes over a listening socket that this process was started with, and keeps it from the programs that it starts. To be
/// called once for each number, before this process listens anywhere itself.
///
/// # Errors
/// When there is none, or something else has the number.
#[allow(unsafe_code)]
pub fn inherited_listener(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only looked at here. A number that is not open makes the call fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // What this process has opened itself is not taken for it.
    if !rustix::net::sockopt::socket_acceptconn(borrowed)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket that does not listen"));
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and is no socket of this process, which listens nowhere yet: whoever started it left it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes what this process was started with beyond `last`: whoever waits for its end would wait for this process too. To be
/// called while this process has nothing open beyond `last` itself.
#[allow(unsafe_code)]
pub fn close_inherited(last: RawFd) {
    let first = last + 1;
    // SAFETY: nothing of this process's own has one of these numbers.
    if unsafe { libc::syscall(libc::SYS_close_range, first, RawFd::MAX, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, or by a filter.
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> =
        open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number >= first) {
        // SAFETY: as above; the directory that was read is closed by now, so one of the numbers may be nobody's.
        unsafe { libc::close(number) };
    }
}

/// Registers a non-blocking descriptor with the event loop of the current runtime.
///
/// # Errors
/// When the kernel can't watch this kind of file, or is out of memory.
#[allow(unsafe_code)]
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open and the same until the `AsyncFd` that owns it deregisters and drops it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}
