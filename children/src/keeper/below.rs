//! A server as its keeper sees it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::shelf::Shelf;
use super::socket::{Buffer, Received, Socket};
use super::wire::{Key, Message, Schema, WIRE};
use crate::ending::Ending;

/// How long the keeper leaves unread what a server has to say after it has read something. Our own pace: nothing outside
/// depends on it.
const REST: Duration = Duration::from_millis(5);

/// A server that runs.
#[derive(Debug)]
pub(super) struct Below {
    pub(super) pid: Pid,
    pub(super) socket: Socket,
    /// Another came before, and what that one left is to be handed over.
    pub(super) follows: bool,
    /// What it said that it writes and reads.
    pub(super) schema: Option<Schema>,
    /// It may have more to say.
    speaks: bool,
    /// It is read again from then on.
    rests_until: Option<Instant>,
    /// Ends that it is to be told.
    untold: VecDeque<(Key, Ending)>,
}

/// What a server said, beside what is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It is there, and writes and reads this.
    Hello(Schema),
    /// It speaks in a way that this keeper does not know.
    Foreign(u16),
    /// It has what it was handed, and serves.
    Serving,
    /// It has given up what runs.
    Suspended,
    /// It ends, and none is to follow.
    Ending,
    /// Something could not be kept.
    NotKept,
}

impl Below {
    pub(super) fn new(pid: Pid, socket: Socket, follows: bool) -> Self {
        let untold = VecDeque::new();
        Self { pid, socket, follows, schema: None, speaks: true, rests_until: None, untold }
    }

    /// What to wait for at its socket.
    pub(super) fn wanted(&self) -> PollFlags {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.speaks && self.rests_until.is_none());
        wanted.set(PollFlags::OUT, !self.untold.is_empty());
        wanted
    }

    /// When it is to be read whatever happens.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Reads it where it is time for that: `ready` tells that it has said something, `now` that it can't wait.
    pub(super) fn listen(
        &mut self,
        ready: bool,
        hurry: bool,
        shelf: &mut Shelf,
        buffer: &mut Buffer,
    ) -> Vec<Said> {
        let rested = self.rests_until.is_some_and(|until| Instant::now() >= until);
        if !(ready || hurry || rested) {
            return Vec::new();
        }
        let (said, heard) = self.hear(shelf, buffer);
        self.rests_until = heard.then(|| Instant::now() + REST);
        said
    }

    /// Does what it asks for, and returns what else it said, and whether it said anything.
    pub(super) fn hear(&mut self, shelf: &mut Shelf, buffer: &mut Buffer) -> (Vec<Said>, bool) {
        let (mut said, mut heard) = (Vec::new(), false);
        while self.speaks {
            let packet = match self.socket.receive(buffer) {
                Ok(Received::Packet(packet)) => packet,
                Ok(Received::Nothing) => break,
                Ok(Received::End) | Err(_) => {
                    self.speaks = false;
                    break;
                }
            };
            heard = true;
            match Message::parse(packet.bytes) {
                Ok(Message::Hello { wire: WIRE, schema }) => said.push(Said::Hello(schema)),
                Ok(Message::Hello { wire, .. }) => said.push(Said::Foreign(wire)),
                Ok(Message::Serving) => said.push(Said::Serving),
                Ok(Message::Suspended) => said.push(Said::Suspended),
                Ok(Message::Ending) => said.push(Said::Ending),
                Ok(message) => {
                    if shelf.apply(&message, packet).is_err() {
                        said.push(Said::NotKept);
                    }
                }
                // No build can have meant it.
                Err(_) => {}
            }
        }
        (said, heard)
    }

    /// Has it told of an end.
    pub(super) fn owe(&mut self, key: Key, end: Ending) {
        self.untold.push_back((key, end));
    }

    /// Tells it of ends while it has room for that.
    pub(super) fn tell_ends(&mut self) {
        while let Some((key, end)) = self.untold.front().copied() {
            match self.socket.try_send(&Message::Ended { key, end }, &[]) {
                Err(Errno::AGAIN) => return,
                // One that is gone can't be told.
                Ok(()) | Err(_) => drop(self.untold.pop_front()),
            }
        }
    }

    /// Says something to it; one that is gone can't be told.
    pub(super) fn say(&self, message: &Message<'_>) {
        let _ = self.socket.send(message, &[], || {});
    }

    /// Signals it. It may have ended this moment, and is then reaped next.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }
}
