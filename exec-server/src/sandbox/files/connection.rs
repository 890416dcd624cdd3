//! Messages with a length before them, over a socket pair; an opened file goes along with an answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A message is refused above this: what the largest answer needs, and no more.
const MOST_BYTES: usize = 256 << 20;

/// Sends a message, with a descriptor if there is one.
pub(super) fn send(socket: impl AsFd, message: &[u8], file: Option<&OwnedFd>) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::from(Errno::MSGSIZE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let fds = file.map(|file| [file.as_fd()]);
    if let Some(fds) = &fds {
        along.push(SendAncillaryMessage::ScmRights(fds));
    }
    let head = length.to_le_bytes();
    let parts = [IoSlice::new(&head), IoSlice::new(message)];
    let mut sent = again(|| sendmsg(&socket, &parts, &mut along, SendFlags::NOSIGNAL))?;
    while sent < head.len() + message.len() {
        let rest = if sent < head.len() { &head[sent..] } else { &message[sent - head.len()..] };
        sent += again(|| rustix::net::send(&socket, rest, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives a message and what came along; none when the other side is gone.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut head = [0; 4];
    let (mut got, mut file) = (0, None);
    while got < head.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut head[got..])];
        let received = again(|| recvmsg(&socket, &mut parts, &mut along, RecvFlags::CMSG_CLOEXEC))?;
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE.into());
        }
        for message in along.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                file = files.last().or(file);
            }
        }
        match received.bytes {
            0 if got == 0 => return Ok(None),
            0 => return Err(Errno::PIPE.into()),
            more => got += more,
        }
    }
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > MOST_BYTES {
        return Err(Errno::MSGSIZE.into());
    }
    let mut message = vec![0; length];
    let mut got = 0;
    while got < length {
        match again(|| {
            rustix::net::recv(&socket, &mut message[got..], RecvFlags::empty()).map(|(_, got)| got)
        })? {
            0 => return Err(Errno::PIPE.into()),
            more => got += more,
        }
    }
    Ok(Some((message, file)))
}

fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
