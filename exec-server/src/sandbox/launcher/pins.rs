//! Keeps directories where they are without putting a mount in their way, over which nothing could be renamed.
//!
//! The kernel renames no directory that something is mounted on, whichever mount it is named by. So each gets a mount on a
//! copy of itself: all of these on top of each other, in a place that another mount hides.

use std::io;
use std::os::fd::OwnedFd;

use super::mounts;

/// Makes the copy of a directory that the next mount goes on and pins it by; itself on the place for pins or the copy before.
///
/// # Errors
/// The system's.
pub(super) fn pin(directory: &OwnedFd, on: &OwnedFd) -> io::Result<OwnedFd> {
    // Without what is mounted in there, unless the kernel wants it together.
    let copy = mounts::clone_alone(directory).or_else(|_| mounts::clone(directory))?;
    mounts::attach(&copy, on)?;
    Ok(copy)
}
