//! How many descriptors this process may open, and how many its programs may.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with, once it has a higher one.
static GIVEN: OnceLock<libc::rlimit> = OnceLock::new();

/// Lets this process open as many descriptors as it is allowed to, instead of the 1,024 that most systems begin with. Programs
/// still start with what this process was started with: those that use select(2) can't deal with more than 1,024. For the
/// binary, at its start.
///
/// # Errors
/// The system's; then all stays as it was.
pub fn raise() -> io::Result<()> {
    let given = getrlimit(Resource::Nofile);
    if given.current == given.maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: given.maximum, ..given })?;
    let number = |bound: Option<u64>| bound.unwrap_or(libc::RLIM_INFINITY);
    let _ = GIVEN.set(libc::rlimit { rlim_cur: number(given.current), rlim_max: number(given.maximum) });
    Ok(())
}

/// The limit that programs are to start with; `None` where this process has that one itself.
pub(crate) fn of_programs() -> Option<&'static libc::rlimit> {
    GIVEN.get()
}
