//! What each system does in a way of its own: starting a process, learning of its end, making a terminal. Everything else in
//! this crate goes through here.
//!
//! Linux starts programs without a fork (`vfork.rs`), which costs the same however large the server is. Other systems, and Linux with
//! the feature `portable`, take the standard library and `portable-pty` (`portable.rs`).

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::posix::ExecArgs;

#[cfg(any(feature = "portable", not(target_os = "linux")))]
use super::portable as way;
#[cfg(not(any(feature = "portable", not(target_os = "linux"))))]
use super::vfork as way;

/// Starts the program: in a session of its own, with no signal ignored or blocked, and nothing open but what `args` says. With it
/// comes what watches it, where the system gives that along.
///
/// Returns once the exec has happened. An error is the errno of whatever step failed.
pub(super) fn start(args: &ExecArgs<'_>) -> io::Result<(Pid, Option<OwnedFd>)> {
    way::start(args)
}

/// A descriptor that is readable once this child can be reaped.
pub(super) fn watch(pid: Pid) -> io::Result<OwnedFd> {
    #[cfg(not(any(feature = "portable", not(target_os = "linux"))))]
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        // Before Linux 5.3, or refused by a filter.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
        opened => return Ok(opened?),
    }
    watch_by_thread(pid)
}

/// The same in a way that every system has: the end of a pipe that a thread holds until then.
fn watch_by_thread(pid: Pid) -> io::Result<OwnedFd> {
    /// The thread's stack (bytes): it makes one call.
    const STACK: usize = 64 << 10;
    let (watched, held) = io::pipe()?;
    let watched = OwnedFd::from(watched);
    rustix::io::ioctl_fionbio(&watched, true)?;
    let wait = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options));
        drop(held);
    };
    std::thread::Builder::new().name("child".into()).stack_size(STACK).spawn(wait)?;
    Ok(watched)
}

/// Our end of a new terminal of this size (close-on-exec), and the path of the child's end, which the child opens itself.
pub(super) fn open_terminal(rows: u16, cols: u16) -> io::Result<(OwnedFd, CString)> {
    #[cfg(any(feature = "portable", not(target_os = "linux")))]
    return way::open_terminal(rows, cols);
    #[cfg(not(any(feature = "portable", not(target_os = "linux"))))]
    return super::terminal::open_master(rows, cols);
}
