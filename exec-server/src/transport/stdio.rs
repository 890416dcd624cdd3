//! The one connection of `--listen stdio`: this process's stdin and stdout (section 3).
//!
//! `O_NONBLOCK` belongs to the open file, which a parent shell or a sibling may share, so it is never set on
//! what was inherited. Pipes and terminals are opened anew through `/proc`, sockets are used with
//! `MSG_DONTWAIT`, and everything else (files, devices, pipes of another user) is served by blocking calls
//! on tokio's threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use codex_children::descriptor::register;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;

use super::carrier::{Carrier, Owner};
use super::frame::Framing;
use super::reader::MessageReader;
use crate::Limits;
use crate::observe::Address;

/// Most bytes of one read from a socket or terminal; the room is zeroed first, so it is kept small. Chosen for speed.
const READ_BYTES: usize = 64 << 10;

/// A carrier over this process's stdin and stdout; must be called inside a tokio runtime, and once.
///
/// The runtime should be shut down without waiting for its blocking threads: one of them may be stuck in a
/// read when stdin is neither pipe, socket nor terminal. Flush the sink before the end.
///
/// # Errors
/// When stdin or stdout is closed or can't be duplicated.
pub fn stdio(limits: &Limits) -> io::Result<Carrier> {
    over(rustix::stdio::stdin(), rustix::stdio::stdout(), limits)
}

/// A carrier that reads lines from `input` and writes to `output`; neither one's flags are touched.
///
/// # Errors
/// When a descriptor is closed or can't be duplicated.
pub fn over(input: BorrowedFd<'_>, output: BorrowedFd<'_>, limits: &Limits) -> io::Result<Carrier> {
    let sink = sink(output)?;
    let reader = match reopened(input, OFlags::RDONLY)? {
        Way::Pipe(fd) => MessageReader::lines(pipe::Receiver::from_owned_fd(fd)?, Vec::new(), limits),
        Way::Polled(kind, fd) => {
            MessageReader::lines(Polled::new(kind, fd, Interest::READABLE)?, Vec::new(), limits)
        }
        Way::Blocking(fd) => MessageReader::lines(file(fd), Vec::new(), limits),
    };
    Ok(Carrier {
        reader,
        sink,
        framing: Framing::Lines,
        owner: Owner::default(),
        peer: Address::Stdio.into(),
    })
}

fn sink(output: BorrowedFd<'_>) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    Ok(match reopened(output, OFlags::WRONLY)? {
        Way::Pipe(fd) => Box::new(pipe::Sender::from_owned_fd(fd)?),
        Way::Polled(kind, fd) => Box::new(Polled::new(kind, fd, Interest::WRITABLE)?),
        Way::Blocking(fd) => Box::new(file(fd)),
    })
}

fn file(fd: OwnedFd) -> tokio::fs::File {
    tokio::fs::File::from_std(fd.into())
}

/// How a descriptor is served.
enum Way {
    Pipe(OwnedFd),
    Polled(Kind, OwnedFd),
    Blocking(OwnedFd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Socket,
    Terminal,
}

fn reopened(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Way> {
    let duplicate = || fcntl_dupfd_cloexec(fd, 3);
    let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
    if kind == FileType::Socket {
        return Ok(Way::Polled(Kind::Socket, duplicate()?));
    }
    let terminal = rustix::termios::isatty(fd);
    if terminal || kind == FileType::Fifo {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        match open(path, flags, Mode::empty()) {
            Ok(fd) if terminal => return Ok(Way::Polled(Kind::Terminal, fd)),
            Ok(fd) => return Ok(Way::Pipe(fd)),
            Err(error) => tracing::debug!(%error, "cannot open stdin or stdout anew; using blocking calls"),
        }
    }
    Ok(Way::Blocking(duplicate()?))
}

/// A socket or terminal whose readiness the runtime watches.
struct Polled {
    kind: Kind,
    fd: AsyncFd<OwnedFd>,
}

impl Polled {
    fn new(kind: Kind, fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        Ok(Self { kind, fd: register(fd, interest)? })
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        Ok(match self.kind {
            Kind::Socket => recv(fd, buffer, RecvFlags::DONTWAIT)?.0,
            // A terminal that hung up is at its end.
            Kind::Terminal => match rustix::io::read(fd, buffer) {
                Err(Errno::IO) => 0,
                read => read?,
            },
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        Ok(match self.kind {
            Kind::Socket => send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?,
            Kind::Terminal => rustix::io::write(fd, bytes)?,
        })
    }
}

impl AsyncRead for Polled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            let room = buffer.remaining().min(READ_BYTES);
            let part = buffer.initialize_unfilled_to(room);
            match guard.try_io(|_| self.read(part)) {
                Ok(Ok(read)) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Polled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match guard.try_io(|_| self.write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing: others may hold the same socket, and closing is the owner's business.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
