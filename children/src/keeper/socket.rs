//! One end of the socket between a keeper and a server: packets with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::wire::{MOST_BYTES, MOST_DESCRIPTORS, MOST_MESSAGE, Message};

/// How long a peer may leave its packets unread before it counts as stuck.
/// A safeguard, far from any real use.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a sender waits that has too many descriptors on their way. Our own pace: nothing outside depends on it.
const PAUSE: Duration = Duration::from_millis(1);

/// One end. Nothing blocks but where it says so.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// What was received.
#[derive(Debug)]
pub(super) enum Received<'b> {
    /// A packet, and the descriptors that came along.
    Packet(Packet<'b>),
    /// Nothing has come yet.
    Nothing,
    /// The peer is gone, and all that it said has been read.
    End,
}

/// A packet.
#[derive(Debug)]
pub(super) struct Packet<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) descriptors: Vec<OwnedFd>,
    /// Some descriptors found no room in this process, or some bytes none in the buffer.
    pub(super) is_cut: bool,
}

/// Room for one packet. Made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Socket {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// One that was handed over.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Sends a message at once.
    ///
    /// # Errors
    /// `EAGAIN` or `ETOOMANYREFS` when the peer has too much to read, `EPIPE` when it is gone, `EMSGSIZE` for too many bytes or
    /// descriptors.
    pub(super) fn try_send(
        &self,
        message: &Message<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let (head, bytes) = (message.head(), message.bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        if bytes.len() > MOST_BYTES
            || descriptors.len() > MOST_DESCRIPTORS
            || !(descriptors.is_empty() || along.push(SendAncillaryMessage::ScmRights(descriptors)))
        {
            return Err(Errno::MSGSIZE);
        }
        let parts = [IoSlice::new(&head), IoSlice::new(bytes)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        retry_on_intr(|| sendmsg(&self.0, &parts, &mut along, flags)).map(drop)
    }

    /// Sends a message; waits, for a few seconds at most, until the peer has room for it. `hurry` is called first when it has
    /// none.
    ///
    /// # Errors
    /// As [`Self::try_send`]; `ETIMEDOUT` when the peer reads nothing.
    pub(super) fn send(
        &self,
        message: &Message<'_>,
        descriptors: &[BorrowedFd<'_>],
        hurry: impl Fn(),
    ) -> Result<(), Errno> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_send(message, descriptors) {
                Err(Errno::AGAIN) => {
                    hurry();
                    let rest = until.saturating_duration_since(Instant::now());
                    if !self.wait(PollFlags::OUT, rest)? {
                        return Err(Errno::TIMEDOUT);
                    }
                }
                Err(Errno::TOOMANYREFS) if Instant::now() < until => {
                    hurry();
                    std::thread::sleep(PAUSE);
                }
                sent => return sent,
            }
        }
    }

    /// Waits for something to read, for a few seconds at most. False when nothing came.
    pub(super) fn wait_readable(&self) -> Result<bool, Errno> {
        self.wait(PollFlags::IN, PATIENCE)
    }

    fn wait(&self, what: PollFlags, time: Duration) -> Result<bool, Errno> {
        let time = Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
        let mut watched = [PollFd::new(&self.0, what)];
        retry_on_intr(|| poll(&mut watched, Some(&time))).map(|ready| ready > 0)
    }

    /// The next packet, if one has come.
    ///
    /// # Errors
    /// The system's, which are for good.
    pub(super) fn receive<'b>(&self, buffer: &'b mut Buffer) -> Result<Received<'b>, Errno> {
        buffer.0.resize(MOST_MESSAGE + 1, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received =
            retry_on_intr(|| recvmsg(&self.0, &mut [IoSliceMut::new(&mut buffer.0)], &mut along, flags));
        let received = match received {
            Ok(received) if received.bytes == 0 => return Ok(Received::End),
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::End),
            Err(error) => return Err(error),
        };
        let mut descriptors = Vec::new();
        for message in along.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                descriptors.extend(more);
            }
        }
        let is_cut = received.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
        let bytes = buffer.0.get(..received.bytes).unwrap_or_default();
        Ok(Received::Packet(Packet { bytes, descriptors, is_cut }))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Buffer {
    /// Gives its memory back.
    pub(super) fn free(&mut self) {
        self.0 = Vec::new();
    }
}
