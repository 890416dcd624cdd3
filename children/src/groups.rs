//! Whether processes share a group or a session, also where those were made outside of our PID namespace (a container's
//! entry point, `docker exec`, `unshare --pid`): the kernel has no number for such a one, and says 0.

#![allow(unsafe_code)]

use rustix::process::Pid;

/// Whether this process leads its session (setsid(2)).
#[must_use]
pub fn leads_session() -> bool {
    // SAFETY: only asks, about this process.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Whether this process's stdin is the terminal of its session (tcgetsid(3)).
#[must_use]
pub fn is_on_own_terminal() -> bool {
    // SAFETY: only asks, about this process.
    unsafe { libc::tcgetsid(libc::STDIN_FILENO) >= 0 }
}

/// Whether this process has its group together with processes outside of its PID namespace.
#[must_use]
pub fn is_in_outer_group() -> bool {
    // SAFETY: only asks, about this process.
    unsafe { libc::getpgrp() == 0 }
}

/// Whether a child of this process is still in this process's group. One that left it made its own in here, which has a
/// number. `false` for a process that is gone.
#[must_use]
pub fn is_beside_us(child: Pid) -> bool {
    // SAFETY: only asks; a number that is nobody's gives an error.
    let (theirs, ours) = unsafe { (libc::getpgid(child.as_raw_pid()), libc::getpgrp()) };
    theirs == ours
}
