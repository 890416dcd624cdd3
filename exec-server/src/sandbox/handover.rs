//! Hands listening sockets out of a program's own network to the server, which made the socket pair that they go over.

use std::io::{self, IoSlice};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use super::descriptors::{self, spare};

/// The server's end and the launcher's.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((ours, spare(&theirs)?))
}

/// Hands the sockets out, all at once.
pub(super) fn send(socket: impl AsFd, listeners: &[TcpListener]) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    descriptors::send(socket, &[IoSlice::new(b"l")], &fds)?;
    Ok(())
}

/// Takes what a launcher handed out before it became its program; doesn't wait.
///
/// # Errors
/// When there is nothing, or not all of it has room in this process.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Vec<TcpListener>> {
    let (bytes, fds) = descriptors::receive(socket, &mut [0], RecvFlags::DONTWAIT)?;
    if bytes == 0 { Err(Errno::PIPE.into()) } else { Ok(fds.into_iter().map(TcpListener::from).collect()) }
}
