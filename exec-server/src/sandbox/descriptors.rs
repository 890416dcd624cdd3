//! Descriptors on their way to a launcher and back: from which number on they are safe, and how they are passed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Descriptors for a launcher are given numbers from here on, so that none is overwritten on the way: those below become
/// its own.
pub const FIRST_SPARE: i32 = 8;
/// The most descriptors that one message takes along: the listeners of a proxy and its bridges.
const MOST: usize = 32;

/// The same file under a number from [`FIRST_SPARE`] on, closed when something is executed.
///
/// # Errors
/// The system's, when this process may have no more descriptors.
pub fn spare(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, FIRST_SPARE)?)
}

/// Sends a message, as far as there is room for it, with descriptors; returns how much of it went. None of it is a signal's
/// matter: it begins again.
pub(super) fn send(socket: impl AsFd, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MOST || !(fds.is_empty() || along.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(Errno::TOOBIG);
    }
    retry_on_intr(|| sendmsg(&socket, parts, &mut along, SendFlags::NOSIGNAL))
}

/// Receives what is there of a message, and the descriptors that came along; closed when something is executed.
///
/// # Errors
/// `EMFILE` when not all of them have room in this process.
pub(super) fn receive(
    socket: impl AsFd,
    into: &mut [u8],
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(into)], &mut along, flags))?;
    let mut fds = Vec::new();
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) { Err(Errno::MFILE) } else { Ok((received.bytes, fds)) }
}
