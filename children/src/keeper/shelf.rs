//! What a keeper holds for the servers that come and go: bytes that it does not read, descriptors, and the ends of programs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::socket::{Packet, Socket};
use super::wire::{Key, Kin, Message, WIRE, Welcome};
use crate::child_mark::{self, Mark};
use crate::ending::Ending;

/// The most bytes of all entries together.
/// A safeguard, far from any real use.
const MOST_BYTES_IN_ALL: usize = 64 << 20;
/// The most entries.
/// A safeguard, far from any real use.
const MOST_ENTRIES: usize = 1 << 16;

/// Starts that a dead server may have made without putting them into the store: their marks are left out.
/// A safeguard, far from any real use.
const STARTS_UNDER_WAY: u32 = 1 << 16;

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// In the order of their keys, so that what was put first is handed over first.
    entries: BTreeMap<Key, Held>,
    programs: HashMap<Pid, Key>,
    /// Marks of what was left running on purpose.
    left: HashSet<u64>,
    bytes: usize,
    next_key: u64,
    next_mark: u32,
}

#[derive(Debug)]
struct Held {
    program: Option<Kin>,
    end: Option<Ending>,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// An entry that could not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotKept;

impl Shelf {
    /// Does what a message to a store asks for. Messages that are none pass.
    ///
    /// # Errors
    /// For one more than can be held: it is gone, and so is what had its key.
    pub(super) fn apply(&mut self, message: &Message<'_>, packet: Packet<'_>) -> Result<(), NotKept> {
        match *message {
            Message::Entry { key, program, bytes, .. } => {
                self.forget(key);
                self.note(key, program);
                if packet.is_cut
                    || self.entries.len() >= MOST_ENTRIES
                    || self.bytes + bytes.len() > MOST_BYTES_IN_ALL
                {
                    return Err(NotKept);
                }
                self.bytes += bytes.len();
                if let Some(program) = program {
                    self.programs.insert(program.pid, key);
                }
                let held =
                    Held { program, end: None, bytes: bytes.to_vec(), descriptors: packet.descriptors };
                self.entries.insert(key, held);
            }
            Message::Update { key, bytes } => {
                if let Some(held) = self.entries.get_mut(&key) {
                    self.bytes = self.bytes - held.bytes.len() + bytes.len();
                    held.bytes = bytes.to_vec();
                }
            }
            Message::Forget { key } => self.forget(key),
            Message::Left { mark } => {
                self.left.insert(mark);
            }
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, key: Key) {
        let Some(held) = self.entries.remove(&key) else { return };
        self.bytes -= held.bytes.len();
        if let Some(program) = held.program
            && self.programs.get(&program.pid) == Some(&key)
        {
            self.programs.remove(&program.pid);
        }
    }

    /// The next server's keys and marks are beyond those of this entry.
    fn note(&mut self, key: Key, program: Option<Kin>) {
        self.next_key = self.next_key.max(key.0.saturating_add(1));
        if let Some(mark) = program.and_then(|program| program.mark) {
            self.next_mark = self.next_mark.max(mark.sequence().saturating_add(1));
        }
    }

    /// Keeps the end of a program that the keeper has waited for. Its key, if it is one that was registered.
    pub(super) fn ended(&mut self, pid: Pid, end: Ending) -> Option<Key> {
        let key = self.programs.remove(&pid)?;
        if let Some(held) = self.entries.get_mut(&key) {
            held.end = Some(end);
        }
        Some(key)
    }

    /// Finds the programs that no longer can be waited for, since the server that has gone had waited for them itself, and
    /// keeps for each an end of which nothing is known. To be called once its children have come to this process.
    pub(super) fn settle(&mut self) -> Vec<(Key, Ending)> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let gone: Vec<Pid> = self
            .programs
            .keys()
            .copied()
            .filter(|pid| matches!(waitid(WaitId::Pid(*pid), options), Err(Errno::CHILD)))
            .collect();
        let ended = gone.into_iter().filter_map(|pid| self.ended(pid, Ending::unknown()));
        ended.map(|key| (key, Ending::unknown())).collect()
    }

    /// The marks of what is meant to go on when a server has died.
    pub(super) fn spared(&self) -> HashSet<u64> {
        let kept = self.entries.values().filter_map(|held| Some(held.program?.mark?.number()));
        kept.chain(self.left.iter().copied()).collect()
    }

    /// Lets go of all entries. The keys and marks that were used stay so.
    pub(super) fn clear(&mut self) {
        let guard = self.entries.remove(&Key::GUARD);
        self.entries = guard.into_iter().map(|held| (Key::GUARD, held)).collect();
        self.programs.clear();
        self.bytes = 0;
    }

    /// The marks of what was left running on purpose.
    pub(super) fn left(&self) -> HashSet<u64> {
        self.left.clone()
    }

    /// Forgets the marks of what was left on purpose and runs no longer.
    pub(super) fn retain_left(&mut self, runs: impl Fn(Mark) -> bool) {
        self.left.retain(|mark| Mark::from_number(*mark).is_some_and(&runs));
    }

    /// Whether a program that is held still runs.
    pub(super) fn has_running(&self) -> bool {
        !self.programs.is_empty()
    }

    /// Hands all of it to a server that follows another.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub(super) fn hand_over(&self, marks: child_mark::Server, server: &Socket) -> Result<(), Errno> {
        let welcome = Welcome {
            wire: WIRE,
            marks: marks.number(),
            next_mark: self.next_mark.saturating_add(STARTS_UNDER_WAY),
            next_key: self.next_key.max(1),
        };
        server.send(&Message::Welcome(welcome), &[], || {})?;
        for (key, held) in &self.entries {
            let message =
                Message::Entry { key: *key, program: held.program, end: held.end, bytes: &held.bytes };
            let descriptors: Vec<BorrowedFd<'_>> = held.descriptors.iter().map(AsFd::as_fd).collect();
            server.send(&message, &descriptors, || {})?;
        }
        server.send(&Message::All, &[], || {})
    }
}
