//! One connection: bytes between the stack's socket, which is the program's other end, and the real one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, Shutdown};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

/// Bytes under way in each direction. Memory is used as far as a connection fills it.
const BUFFER: usize = 256 << 10;

/// A connection, and what is known of its real end.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) handle: SocketHandle,
    remote: OwnedFd,
    /// As long as the system did not say otherwise.
    readable: bool,
    writable: bool,
    /// The real end was told that nothing more comes.
    told_end: bool,
    /// Nothing more comes from it.
    heard_end: bool,
}

/// A socket that takes the first packet to this place.
pub(crate) fn waiting(target: IpEndpoint) -> Option<Socket<'static>> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    // The other end is this machine's kernel: nothing is gained by waiting.
    socket.set_ack_delay(None);
    socket.listen(IpListenEndpoint { addr: Some(target.addr), port: target.port }).ok()?;
    Some(socket)
}

impl Carried {
    pub(crate) fn new(handle: SocketHandle, remote: OwnedFd) -> Self {
        Self { handle, remote, readable: true, writable: true, told_end: false, heard_end: false }
    }

    pub(crate) fn remote(&self) -> BorrowedFd<'_> {
        self.remote.as_fd()
    }

    /// What has to happen to the real end before more can be carried; nothing if it is the program's turn.
    pub(crate) fn waits_for(&self, socket: &Socket<'_>) -> PollFlags {
        let mut waits = PollFlags::empty();
        waits.set(PollFlags::IN, !self.readable && !self.heard_end && socket.can_send());
        waits.set(PollFlags::OUT, !self.writable && socket.can_recv());
        waits
    }

    /// What has happened to it.
    pub(crate) fn happened(&mut self, events: PollFlags) {
        let broken = events.intersects(PollFlags::ERR | PollFlags::HUP);
        self.readable |= broken || events.contains(PollFlags::IN);
        self.writable |= broken || events.contains(PollFlags::OUT);
    }

    /// Carries what can be carried now.
    pub(crate) fn carry(&mut self, socket: &mut Socket<'_>) {
        let outwards = self.carry_out(socket);
        let carried = outwards.and_then(|()| self.carry_in(socket));
        if carried.is_err() {
            socket.abort();
        }
    }

    fn carry_out(&mut self, socket: &mut Socket<'_>) -> Result<(), Errno> {
        while self.writable && socket.can_recv() {
            let sent = socket.recv(|bytes| {
                let sent = retry_on_intr(|| rustix::net::send(&self.remote, bytes, SendFlags::NOSIGNAL));
                (sent.unwrap_or(0), sent)
            });
            match sent.map_err(|_| Errno::PIPE)? {
                Ok(_) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if !self.told_end && !socket.can_recv() && has_sent_all(socket) {
            self.told_end = true;
            rustix::net::shutdown(&self.remote, Shutdown::Write)?;
        }
        Ok(())
    }

    fn carry_in(&mut self, socket: &mut Socket<'_>) -> Result<(), Errno> {
        while self.readable && !self.heard_end && socket.can_send() {
            let received = socket.send(|room| {
                let received = retry_on_intr(|| rustix::io::read(&self.remote, &mut *room));
                (received.unwrap_or(0), received)
            });
            match received.map_err(|_| Errno::PIPE)? {
                Ok(0) => {
                    self.heard_end = true;
                    socket.close();
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the program has closed its side.
fn has_sent_all(socket: &Socket<'_>) -> bool {
    matches!(
        socket.state(),
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
    )
}

/// Whether nothing more is to be done: then what has to be said was said.
pub(crate) fn is_over(socket: &Socket<'_>) -> bool {
    // It listens again if the program had given up before it was answered.
    matches!(socket.state(), State::Closed | State::TimeWait | State::Listen)
}
