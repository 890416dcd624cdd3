//! Messages with a length before them, over a socket pair; an opened file goes along with an answer.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};

use crate::sandbox::descriptors;

/// A message is refused above this: what the largest answer needs, and no more.
const MOST_BYTES: usize = 256 << 20;

/// Sends a message, with a descriptor if there is one.
pub(super) fn send(socket: impl AsFd, message: &[u8], file: Option<&OwnedFd>) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::from(Errno::MSGSIZE))?;
    let fds: Vec<BorrowedFd<'_>> = file.map(AsFd::as_fd).into_iter().collect();
    let head = length.to_le_bytes();
    let parts = [IoSlice::new(&head), IoSlice::new(message)];
    let mut sent = descriptors::send(&socket, &parts, &fds)?;
    while sent < head.len() + message.len() {
        let rest = if sent < head.len() { &head[sent..] } else { &message[sent - head.len()..] };
        sent += retry_on_intr(|| rustix::net::send(&socket, rest, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives a message and what came along; none when the other side is gone.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut head = [0; 4];
    let (mut got, mut file) = (0, None);
    while got < head.len() {
        let (bytes, files) = descriptors::receive(&socket, &mut head[got..], RecvFlags::empty())?;
        file = files.into_iter().next_back().or(file);
        match bytes {
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
        match retry_on_intr(|| {
            rustix::net::recv(&socket, &mut message[got..], RecvFlags::empty()).map(|(_, got)| got)
        })? {
            0 => return Err(Errno::PIPE.into()),
            more => got += more,
        }
    }
    Ok(Some((message, file)))
}
