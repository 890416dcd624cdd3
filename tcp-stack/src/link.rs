//! The socket between the stack and who opens its connections: questions one way, connected sockets the other.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::service::Bounds;

/// The longest message (bytes): a question with the longest name.
const LONGEST: usize = 1024;
/// The most descriptors that a message takes along.
const MOST: usize = 3;

/// What the stack is given to work on.
#[derive(Debug)]
pub struct Given {
    /// A TUN device without packet information, whose addresses and routes are set.
    pub device: OwnedFd,
    /// A UDP socket that names are asked for on.
    pub datagrams: OwnedFd,
    /// A TCP socket that listens for the same.
    pub listener: OwnedFd,
}

/// A question: may this connection be, and who opens it?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the stack.
    pub id: u64,
    /// The program's end.
    pub client: SocketAddr,
    /// A name in lower case or an address.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// The answer to a question, with a connected socket if it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    id: u64,
}

/// The stack's own end.
#[derive(Debug)]
pub struct StackEnd(OwnedFd);

/// Two ends that belong together: that of who opens connections, and the stack's for another process.
///
/// # Errors
/// The system's, when there are no more descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Gives the stack what it works on; once, before anything else.
///
/// # Errors
/// The system's.
pub fn give(link: impl AsFd, given: &Given, bounds: Bounds) -> io::Result<()> {
    let fds = [given.device.as_fd(), given.datagrams.as_fd(), given.listener.as_fd()];
    send(link, &bounds, &fds)
}

/// The stack's next question; none when it has ended. Doesn't wait.
///
/// # Errors
/// `WouldBlock` when there is none yet, `InvalidData` for what is no question.
pub fn next_question(link: impl AsFd) -> io::Result<Option<Ask>> {
    match receive::<Ask>(link, RecvFlags::DONTWAIT)? {
        Some((Ask { port: 0, .. }, _)) => Err(io::ErrorKind::InvalidData.into()),
        asked => Ok(asked.map(|(asked, _)| asked)),
    }
}

/// Answers a question: with a connected socket, or with none for a refusal. Doesn't wait.
///
/// # Errors
/// `WouldBlock` while the stack has too much to read.
pub fn answer(link: impl AsFd, id: u64, stream: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send(link, &Answer { id }, stream.as_slice())
}

impl From<OwnedFd> for StackEnd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for StackEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl StackEnd {
    /// Waits for what to work on; none if nobody gives it any more.
    pub(crate) fn take(&self) -> io::Result<Option<(Given, Bounds)>> {
        let Some((bounds, fds)) = receive(&self.0, RecvFlags::empty())? else { return Ok(None) };
        let [device, datagrams, listener] =
            <[OwnedFd; 3]>::try_from(fds).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Some((Given { device, datagrams, listener }, bounds)))
    }

    /// Asks. Doesn't wait.
    pub(crate) fn ask(&self, ask: &Ask) -> io::Result<()> {
        send(&self.0, ask, &[])
    }

    /// The next answer's number and socket; none when nobody answers any more. Doesn't wait.
    pub(crate) fn next(&self) -> io::Result<Option<(u64, Option<OwnedFd>)>> {
        let answer: Option<(Answer, Vec<OwnedFd>)> = receive(&self.0, RecvFlags::DONTWAIT)?;
        Ok(answer.map(|(Answer { id }, fds)| (id, fds.into_iter().next())))
    }
}

fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !along.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], &mut along, flags))?;
    Ok(())
}

/// A message, and what came along; none at the end.
fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut along, flags))?;
    let mut fds = Vec::new();
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_arrive_whole_with_what_they_take_along() {
        let (server, stack) = pair().unwrap();
        let stack = StackEnd::from(stack);
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let given = Given { device: file(), datagrams: file(), listener: file() };
        give(&server, &given, Bounds { connections: 7, names: 9 }).unwrap();
        let (_, bounds) = stack.take().unwrap().unwrap();
        assert_eq!((bounds.connections, bounds.names), (7, 9));

        assert_eq!(next_question(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = "192.0.2.1:4".parse().unwrap();
        let mut ask = Ask { id: 3, client, host: "a".repeat(253), port: 443 };
        stack.ask(&ask).unwrap();
        assert_eq!(next_question(&server).unwrap(), Some(ask.clone()));
        answer(&server, 3, None).unwrap();
        answer(&server, 4, Some(given.device.as_fd())).unwrap();
        assert!(matches!(stack.next().unwrap(), Some((3, None))));
        assert!(matches!(stack.next().unwrap(), Some((4, Some(_)))));

        ask.port = 0;
        stack.ask(&ask).unwrap();
        assert_eq!(next_question(&server).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(stack);
        assert_eq!(next_question(&server).unwrap(), None);
    }
}
