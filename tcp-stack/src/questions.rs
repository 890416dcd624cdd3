//! The sockets that names are asked for on, by UDP and by TCP.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, accept_with, sendmsg_addr};

use crate::names::Names;
use crate::resolver;

/// The longest question that is read by UDP (bytes); one has no reason to be longer.
/// A safeguard, far from any real use.
const LONGEST_DATAGRAM: usize = 1500;
/// TCP connections with questions at once; the one that came first makes room. A safeguard, far from any real use.
const MOST_CONNECTIONS: usize = 16;
/// Datagrams and connections that are taken at once, so that packets are not kept waiting.
const BATCH: usize = 64;

/// Where names are asked for.
#[derive(Debug)]
pub(crate) struct Questions {
    datagrams: OwnedFd,
    listener: OwnedFd,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: OwnedFd,
    /// Of a question that is not whole.
    received: Vec<u8>,
}

impl Questions {
    pub(crate) fn new(datagrams: OwnedFd, listener: OwnedFd) -> io::Result<Self> {
        for socket in [&datagrams, &listener] {
            rustix::io::ioctl_fionbio(socket, true)?;
        }
        Ok(Self { datagrams, listener, connections: Vec::new() })
    }

    /// What to watch: readable is something to do.
    pub(crate) fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let connections = self.connections.iter().map(|connection| connection.stream.as_fd());
        [self.datagrams.as_fd(), self.listener.as_fd()].into_iter().chain(connections)
    }

    /// Answers what has come.
    pub(crate) fn answer(&mut self, names: &mut Names) {
        for _ in 0..BATCH {
            if self.answer_datagram(names).is_err() {
                break;
            }
        }
        self.accept();
        self.connections.retain_mut(|connection| connection.answer(names));
    }

    fn answer_datagram(&self, names: &mut Names) -> Result<(), Errno> {
        let mut question = [0; LONGEST_DATAGRAM];
        let (length, _, from) =
            retry_on_intr(|| rustix::net::recvfrom(&self.datagrams, &mut question[..], RecvFlags::DONTWAIT))?;
        let Some(from) = from else { return Ok(()) };
        if let Some(answer) = resolver::answer(&question[..length], names) {
            // Whoever doesn't take it asks again. (`sendto` with a name is refused in here.)
            let parts = [io::IoSlice::new(&answer)];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let _ = sendmsg_addr(&self.datagrams, &from, &parts, &mut SendAncillaryBuffer::default(), flags);
        }
        Ok(())
    }

    fn accept(&mut self) {
        for _ in 0..BATCH {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(stream) = retry_on_intr(|| accept_with(&self.listener, flags)) else { return };
            if self.connections.len() >= MOST_CONNECTIONS {
                self.connections.remove(0);
            }
            self.connections.push(Connection { stream, received: Vec::new() });
        }
    }
}

impl Connection {
    /// Answers what has come whole; false when it is over.
    fn answer(&mut self, names: &mut Names) -> bool {
        let mut bytes = [0; LONGEST_DATAGRAM];
        loop {
            match retry_on_intr(|| rustix::io::read(&self.stream, &mut bytes)) {
                Ok(0) => return false,
                Ok(length) => self.received.extend_from_slice(&bytes[..length]),
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
            while let Some((length, rest)) = self.received.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if length > LONGEST_DATAGRAM {
                    return false;
                }
                let Some(question) = rest.get(..length) else { break };
                let told = resolver::answer(question, names).filter(|answer| self.tell(answer));
                if told.is_none() {
                    return false;
                }
                self.received.drain(..length + 2);
            }
        }
    }

    /// Sends an answer whole; one that the system doesn't take at once ends the connection.
    fn tell(&self, answer: &[u8]) -> bool {
        let Ok(length) = u16::try_from(answer.len()) else { return false };
        let whole = [&length.to_be_bytes()[..], answer].concat();
        retry_on_intr(|| rustix::net::send(&self.stream, &whole, SendFlags::NOSIGNAL)) == Ok(whole.len())
    }
}
