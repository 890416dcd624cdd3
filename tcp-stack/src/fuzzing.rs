//! What the fuzz targets see of this crate.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, send, socketpair};

use crate::link::{self, Given, StackEnd};
use crate::names::Names;
use crate::resolver;
use crate::service::{Bounds, Service};

/// What the resolver answers to a question.
pub fn resolved(question: &[u8]) -> Option<Vec<u8>> {
    resolver::answer(question, &mut Names::new(4))
}

/// Something that happens to a stack.
#[derive(Debug, Clone)]
pub enum Step {
    /// The program's kernel sends a packet.
    Packet(Vec<u8>),
    /// The oldest question is answered: with a connection, or a refusal.
    Answer(bool),
    /// The other end of the newest connection sends.
    Sent(Vec<u8>),
    /// It goes.
    Gone,
}

/// Runs a stack through the steps that `next` makes of the packets that the stack has sent since the last one.
///
/// # Errors
/// The system's.
pub fn play(mut next: impl FnMut(&[Vec<u8>]) -> Option<Step>) -> io::Result<()> {
    let pair =
        |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None);
    let (server, stack) = link::pair()?;
    let (kernel, device) = pair(SocketType::SEQPACKET)?;
    let (datagrams, listener) = pair(SocketType::DGRAM)?;
    let given = Given { device, datagrams, listener };
    let bounds = Bounds { connections: 3, names: 4 };
    let mut service = Service::new(StackEnd::from(stack), given, bounds, 1)?;
    let (mut asked, mut remotes, mut told) = (Vec::new(), Vec::<OwnedFd>::new(), Vec::new());
    let mut packet = vec![0; usize::from(u16::MAX)];
    while let Some(step) = next(&told) {
        told.clear();
        match step {
            Step::Packet(bytes) if bytes.is_empty() => continue,
            Step::Packet(bytes) => drop(send(&kernel, &bytes, rustix::net::SendFlags::NOSIGNAL)),
            Step::Answer(yes) if !asked.is_empty() => {
                let id = asked.remove(0);
                let (near, far) = pair(SocketType::STREAM)?;
                link::answer(&server, id, yes.then(|| far.as_fd()))?;
                remotes.extend(yes.then_some(near));
            }
            Step::Sent(bytes) => {
                if let Some(remote) = remotes.last() {
                    let _ = send(remote, &bytes, rustix::net::SendFlags::NOSIGNAL);
                }
            }
            Step::Gone => drop(remotes.pop()),
            Step::Answer(_) => {}
        }
        service.turn()?;
        while let Ok(Some(ask)) = link::next_question(&server) {
            asked.push(ask.id);
        }
        while let Ok((length, _)) = rustix::net::recv(&kernel, &mut packet[..], RecvFlags::DONTWAIT) {
            told.push(packet[..length].to_vec());
        }
    }
    Ok(())
}
