//! The one wire between a server and its launchers: messages with a length before them, over a socket pair, and descriptors
//! that go along.
//!
//! Both ends are the same binary, so the form may change with it. What a launcher or helper answers is bounded all the same.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// The descriptor that a launcher has its end of the wire as.
pub(super) const LAUNCHER_END: i32 = 3;
/// Descriptors for a launcher are given numbers from here on, so that none is overwritten on the way: those below become
/// its own.
pub const FIRST_SPARE: i32 = 8;
/// The most descriptors that one message takes along: the listeners of a proxy and its bridges.
/// A safeguard, far from any real use.
const MOST_DESCRIPTORS: usize = 32;
/// A message is refused above this: what the largest answer of a helper needs, and no more.
/// A safeguard, far from any real use.
const MOST_BYTES: usize = 256 << 20;
/// The length of a message, before it: little-endian.
pub(super) type Head = [u8; 4];

/// The same file under a number from [`FIRST_SPARE`] on, closed when something is executed.
///
/// # Errors
/// The system's, when this process may have no more descriptors.
pub fn spare(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, FIRST_SPARE)?)
}

/// The server's end and the launcher's.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((ours, spare(theirs)?))
}

/// A message and what came along.
pub(super) struct Received {
    bytes: Vec<u8>,
    /// Closed when something is executed.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Received {
    /// The message itself.
    ///
    /// # Errors
    /// `EBADMSG` when it is no such message, whole and nothing else.
    pub(super) fn message<'m, T: Deserialize<'m>>(&'m self) -> io::Result<T> {
        decode(&self.bytes)
    }
}

pub(super) fn decode<'m, T: Deserialize<'m>>(bytes: &'m [u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(Errno::BADMSG.into()),
    }
}

/// The message behind its length.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, Head::default().to_vec()).map_err(|_| Errno::INVAL)?;
    let length = u32::try_from(bytes.len() - size_of::<Head>()).map_err(|_| Errno::MSGSIZE)?;
    bytes[..size_of::<Head>()].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Sends a message, with descriptors if there are any. Blocks until the other end has room for it.
///
/// # Errors
/// `EPIPE` when there is no other end any more, and the system's.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = encode(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > MOST_DESCRIPTORS
        || !(descriptors.is_empty() || along.push(SendAncillaryMessage::ScmRights(descriptors)))
    {
        return Err(Errno::TOOBIG.into());
    }
    let mut sent =
        retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], &mut along, SendFlags::NOSIGNAL))?;
    while sent < bytes.len() {
        sent += retry_on_intr(|| rustix::net::send(&socket, &bytes[sent..], SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives a message; none when the other end is gone. Blocks.
///
/// # Errors
/// `EMFILE` when not all descriptors have room in this process, `EPIPE` when the other end goes within a message, `EMSGSIZE`
/// for one of too many bytes.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Received>> {
    let mut head = Head::default();
    let (mut got, mut descriptors) = (0, Vec::new());
    while got < head.len() {
        match receive_some(&socket, &mut head[got..], &mut descriptors)? {
            0 if got == 0 => return Ok(None),
            0 => return Err(Errno::PIPE.into()),
            more => got += more,
        }
    }
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > MOST_BYTES {
        return Err(Errno::MSGSIZE.into());
    }
    let mut bytes = vec![0; length];
    let mut got = 0;
    while got < length {
        match receive_some(&socket, &mut bytes[got..], &mut descriptors)? {
            0 => return Err(Errno::PIPE.into()),
            more => got += more,
        }
    }
    Ok(Some(Received { bytes, descriptors }))
}

fn receive_some(socket: impl AsFd, into: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(into)], &mut along, flags))?;
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    // More than one message's descriptors are nobody's here: then the end is a broken one.
    let too_many = received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > MOST_DESCRIPTORS;
    if too_many { Err(Errno::MFILE) } else { Ok(received.bytes) }
}

/// Paths as they are: any bytes, while serde's own form of them takes UTF-8 alone.
pub(super) mod exact_path {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(to)
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(from).map(PathBuf::from)
    }
}
