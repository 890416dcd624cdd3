//! Hands a file descriptor to the event loop.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a non-blocking descriptor with the event loop of the current runtime.
///
/// # Errors
/// When the kernel can't watch this kind of file, or is out of memory.
#[allow(unsafe_code)]
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open and the same until the `AsyncFd` that owns it deregisters and drops it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}
