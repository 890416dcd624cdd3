//! Unix sockets of a program's own: it may name them in files that it may write, and reaches nobody else's.
//!
//! A filter can't look at a name, and what a name leads to may change between a look and its use. So no socket of a program is
//! ever in a state in which the kernel would join it to a name or give it one: the first process of its PID namespace is asked
//! for each Unix socket, and for each `bind` and `connect` of any ([`requests`]). It answers
//!
//! - `socket` with a stream or packets that are joined already, to nobody, and have a name: the kernel neither binds,
//!   connects nor listens on such a one;
//! - `bind` by making an empty socket file at the place, with the program's rights, and putting a socket over the program's
//!   that listens elsewhere: in a file system that no path leads to ([`private`]);
//! - `connect` by looking which file the name leads to now; if it is one of those, the program's socket is replaced by one
//!   that is joined to the listening one. No name of the program's is ever connected to.
//!
//! What is asked about other kinds of sockets goes on as it was, since it can't concern one of these. The kernel may read
//! arguments anew then, and whatever they are by that time, the sockets that there are can do nothing with them.

#![allow(unsafe_code)]

mod asker;
mod private;
mod requests;
mod supervisor;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};

use crate::sandbox::task::{NetworkWalls, Walls};
use crate::sandbox::wire;

/// What the first process needs to answer for a program.
pub(super) struct Handed {
    /// Where the kernel asks.
    listener: OwnedFd,
    /// The program's root.
    root: OwnedFd,
    /// The program's mount namespace.
    mounts: OwnedFd,
    /// Whether there is no network, so nothing is asked but about Unix sockets.
    no_network: bool,
}

/// Has the kernel ask the first process, at the other end of this link, about Unix sockets. `false` where it can't be had:
/// then there must be none. To be called before any other filter, and after everything else.
pub(super) fn hand_over(walls: &Walls, first: &OwnedFd) -> io::Result<bool> {
    let is_open = walls.network == NetworkWalls::Open;
    if is_open && !walls.restricts_files() {
        // All there are may be reached.
        return Ok(false);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, c"/", flags | OFlags::DIRECTORY, Mode::empty())?;
    let mounts = match rustix::fs::openat(
        CWD,
        c"/proc/self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(mounts) => mounts,
        // The program has no `/proc`, by which it is known.
        Err(_) => return Ok(false),
    };
    // Before Linux 5.5, or in a container whose own supervisor asks.
    let Ok(listener) = requests::install() else { return Ok(false) };
    let no_network = walls.network == NetworkWalls::Closed;
    wire::send(first, &no_network, &[listener.as_fd(), root.as_fd(), mounts.as_fd()])?;
    Ok(true)
}

/// What the program's process hands over; none if it is executing its program, or is gone, without.
pub(super) fn take(link: impl AsFd) -> io::Result<Option<Handed>> {
    let Some(received) = wire::receive(link)? else { return Ok(None) };
    let no_network = received.message()?;
    let [listener, root, mounts] = <[OwnedFd; 3]>::try_from(received.descriptors)
        .map_err(|_| io::Error::from_raw_os_error(libc::EBADMSG))?;
    Ok(Some(Handed { listener, root, mounts, no_network }))
}

/// Answers until nobody is left who could ask; `program` watches the program.
pub(super) fn serve(handed: Handed, program: Option<&OwnedFd>) -> io::Result<()> {
    supervisor::serve(handed, program)
}
