//! Which output a peer has received for certain: pings sent behind it, and their pongs.
//!
//! What lies in socket buffers is lost when a connection breaks, and it can be more than a log retains. A peer answers
//! a ping when it has read everything before it (RFC 6455, 5.5.2), so a log forgets only what lies before an answered
//! one, and a resume finds every byte.
//!
//! A peer that never answers pings must not wait for ever (released servers let it be, `protocol.md` 2.3): after a
//! while without a first pong, what the socket takes counts as received.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::process::{Process, Seq};
use crate::transport::Framing;

/// A ping follows every so many bytes of output; a log has room for several of these.
const PING_BYTES: usize = 256 << 10;
/// The first one comes sooner: it tells early whether the peer answers at all.
const FIRST_PING_BYTES: usize = 64 << 10;
/// How long the first pong may take.
const PATIENCE: Duration = Duration::from_millis(300);

/// How far which process's events went.
type Reached = Vec<(Weak<Process>, Seq)>;

/// The pings of one connection that are on their way.
#[derive(Debug)]
pub(super) struct Receipts {
    framing: Framing,
    next: u64,
    /// Since the last ping.
    bytes: usize,
    reached: Reached,
    pending: VecDeque<(u64, Reached)>,
    /// Nothing is read from the peer at present, so no pong can come.
    deaf: bool,
    answers: Answers,
}

/// Whether the peer answers pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// None was sent yet.
    Unasked,
    /// The first was sent; without an answer by then it counts as `Never`.
    AskedUntil(Instant),
    Always,
    Never,
}

impl Receipts {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            next: 1,
            bytes: 0,
            reached: Vec::new(),
            pending: VecDeque::new(),
            deaf: false,
            answers: Answers::Unasked,
        }
    }

    /// `bytes` of output of a process, up to its number `seq`, are on their way.
    pub(super) fn sent(&mut self, process: &Arc<Process>, seq: Seq, bytes: usize) {
        if self.deaf || self.answers == Answers::Never || self.framing == Framing::Lines {
            // No pings on lines; a pipe or Unix socket holds far less than a log.
            process.received(seq);
            return;
        }
        self.bytes += bytes;
        let this = Arc::as_ptr(process);
        match self.reached.iter_mut().find(|(known, _)| known.as_ptr() == this) {
            Some((_, reached)) => *reached = seq,
            None => self.reached.push((Arc::downgrade(process), seq)),
        }
    }

    /// The payload of a ping to send behind what was sent, when it is time for one.
    pub(super) fn ask(&mut self, now: Instant) -> Option<[u8; 8]> {
        let enough = if self.answers == Answers::Unasked { FIRST_PING_BYTES } else { PING_BYTES };
        if self.bytes < enough {
            // Processes that have gone need no receipt.
            if self.reached.len() > 64 {
                self.reached.retain(|(process, _)| process.strong_count() > 0);
            }
            return None;
        }
        if self.answers == Answers::Unasked {
            self.answers = Answers::AskedUntil(now + PATIENCE);
        }
        self.bytes = 0;
        let number = self.next;
        self.next += 1;
        self.pending.push_back((number, std::mem::take(&mut self.reached)));
        Some(number.to_be_bytes())
    }

    /// A bound keeps us from reading. What is sent then counts as received: a program that waits for a pong that
    /// waits for an answer that waits for the program would wait for ever.
    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
        if deaf {
            self.count_as_received();
        }
    }

    /// When [`Self::give_up`] is to be called, unless a pong comes first.
    pub(super) fn patience(&self) -> Option<Instant> {
        match self.answers {
            Answers::AskedUntil(until) => Some(until),
            _ => None,
        }
    }

    /// The peer does not answer pings; what was sent, and will be, counts as received.
    pub(super) fn give_up(&mut self) {
        self.answers = Answers::Never;
        self.count_as_received();
    }

    fn count_as_received(&mut self) {
        let pending = std::mem::take(&mut self.pending).into_iter().flat_map(|(_, reached)| reached);
        for (process, seq) in pending.chain(std::mem::take(&mut self.reached)) {
            if let Some(process) = process.upgrade() {
                process.received(seq);
            }
        }
    }

    /// A pong came. Others than to our numbered pings mean nothing.
    pub(super) fn confirmed(&mut self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        if number >= self.next {
            return;
        }
        self.answers = Answers::Always;
        while let Some((_, reached)) = self.pending.pop_front_if(|(asked, _)| *asked <= number) {
            for (process, seq) in reached {
                if let Some(process) = process.upgrade() {
                    process.received(seq);
                }
            }
        }
    }
}
