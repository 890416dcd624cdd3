//! Hands listening sockets out of a program's own network to the server, which made the socket pair that they go over.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The most that one launch hands out: a proxy and its bridges.
pub(crate) const MOST: usize = 32;
/// Descriptors for the launcher are given numbers from here on, so that none is overwritten on the way.
const FIRST_SPARE: i32 = 8;

/// The server's end and the launcher's.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((ours, rustix::io::fcntl_dupfd_cloexec(&theirs, FIRST_SPARE)?))
}

/// Hands the sockets out, all at once.
pub(super) fn send(socket: impl AsFd, listeners: &[TcpListener]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    if fds.len() > MOST || !along.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::TOOBIG.into());
    }
    sendmsg(socket, &[IoSlice::new(b"l")], &mut along, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes what a launcher handed out before it became its program; doesn't wait.
///
/// # Errors
/// When there is nothing, or not all of it has room in this process.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut along, flags)?;
    let mut listeners = Vec::new();
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            listeners.extend(fds.map(TcpListener::from));
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    if received.bytes == 0 { Err(Errno::PIPE.into()) } else { Ok(listeners) }
}
