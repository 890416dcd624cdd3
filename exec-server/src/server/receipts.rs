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

use codex_exec_protocol::Seq;

use crate::process::Process;
use crate::transport::Framing;

/// A ping follows each time this many bytes of output went out, or a [`LOG_PARTS`]th of what a log retains. Chosen for speed.
const PING_BYTES: usize = 256 << 10;
/// The first one comes sooner: it tells early whether the peer answers at all. Chosen for speed.
const FIRST_PING_BYTES: usize = 64 << 10;
/// A log has room for several times what goes out between two pings: a full one would wait for a ping that waits for more.
const LOG_PARTS: usize = 4;
/// The most pings that wait for their pongs. No other goes out until a pong comes; the next ping covers what is sent meanwhile.
/// Our own pace: nothing outside depends on it.
const UNANSWERED: usize = 64;
/// How long the first pong may take. Our own pace: nothing outside depends on it.
const PATIENCE: Duration = Duration::from_millis(300);

/// How far a process's events went.
#[derive(Debug)]
struct Reach {
    process: Weak<Process>,
    /// The last number that went out as a notification.
    sent: Seq,
    /// The last number that went out as the answer to a `process/read`.
    read: Option<Seq>,
}

type Reached = Vec<Reach>;

/// The pings of one connection that are on their way.
#[derive(Debug)]
pub(super) struct Receipts {
    framing: Framing,
    /// So many bytes are followed by a ping.
    ping_bytes: usize,
    next: u64,
    /// Since the last ping.
    bytes: usize,
    reached: Reached,
    pending: VecDeque<(u64, Reached)>,
    /// Requests in flight keep us from reading, so no pong can come.
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

impl Reach {
    fn confirm(self) {
        let Some(process) = self.process.upgrade() else { return };
        if self.sent > Seq::NONE {
            process.received(self.sent);
        }
        if let Some(read) = self.read {
            process.was_read(read);
        }
    }
}

impl Receipts {
    /// Logs retain `log_bytes` each.
    pub(super) fn new(framing: Framing, log_bytes: usize) -> Self {
        Self {
            framing,
            ping_bytes: PING_BYTES.min(log_bytes / LOG_PARTS),
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
        self.reach(process).sent = seq;
    }

    /// The answer to a read, up to its number `seq`, is on its way; a ping is to follow at once. What it holds may be
    /// read again until it was received, since a connection may break in the middle of a resume.
    pub(super) fn answered(&mut self, process: &Arc<Process>, seq: Seq) {
        if self.deaf || self.answers == Answers::Never || self.framing == Framing::Lines {
            process.was_read(seq);
            return;
        }
        self.bytes += self.ping_bytes;
        let reach = self.reach(process);
        reach.read = reach.read.max(Some(seq));
    }

    fn reach(&mut self, process: &Arc<Process>) -> &mut Reach {
        let this = Arc::as_ptr(process);
        let known = self.reached.iter().position(|reach| reach.process.as_ptr() == this);
        let at = known.unwrap_or_else(|| {
            self.reached.push(Reach { process: Arc::downgrade(process), sent: Seq::NONE, read: None });
            self.reached.len() - 1
        });
        &mut self.reached[at]
    }

    /// The payload of a ping to send behind what was sent, when it is time for one.
    pub(super) fn ask(&mut self, now: Instant) -> Option<[u8; 8]> {
        let first = self.answers == Answers::Unasked;
        let enough = if first { FIRST_PING_BYTES.min(self.ping_bytes) } else { self.ping_bytes };
        if self.bytes < enough || self.pending.len() >= UNANSWERED {
            // Processes that have gone need no receipt.
            if self.reached.len() > 64 {
                self.reached.retain(|reach| reach.process.strong_count() > 0);
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

    /// Requests in flight keep us from reading. What is sent then counts as received: a program that waits for a pong that
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
        pending.chain(std::mem::take(&mut self.reached)).for_each(Reach::confirm);
    }

    /// A pong came. Only one that answers a numbered ping of ours means anything.
    pub(super) fn confirmed(&mut self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        if number >= self.next {
            return;
        }
        self.answers = Answers::Always;
        while let Some((_, reached)) = self.pending.pop_front_if(|(asked, _)| *asked <= number) {
            reached.into_iter().for_each(Reach::confirm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(log_bytes: usize) -> Receipts {
        Receipts::new(Framing::WebSocket, log_bytes)
    }

    #[test]
    fn a_ping_comes_well_before_a_log_is_full() {
        for (log_bytes, answers, expected) in [
            (4 << 10, Answers::Unasked, 1 << 10),
            (4 << 10, Answers::Always, 1 << 10),
            (1 << 20, Answers::Unasked, FIRST_PING_BYTES),
            (1 << 20, Answers::Always, PING_BYTES),
            (1 << 30, Answers::Always, PING_BYTES),
        ] {
            let (mut receipts, now) = (receipts(log_bytes), Instant::now());
            receipts.answers = answers;
            receipts.bytes = expected - 1;
            assert_eq!(receipts.ask(now), None, "{log_bytes} {answers:?}");
            receipts.bytes = expected;
            assert!(receipts.ask(now).is_some(), "{log_bytes} {answers:?}");
        }
    }

    #[test]
    fn pings_that_nobody_answers_do_not_pile_up_and_a_pong_sets_them_going_again() {
        let (mut receipts, now) = (receipts(1 << 20), Instant::now());
        receipts.answers = Answers::Always;
        let mut sent = 0;
        for _ in 0..10 * UNANSWERED {
            receipts.bytes += PING_BYTES;
            sent += usize::from(receipts.ask(now).is_some());
        }
        assert_eq!((sent, receipts.pending.len()), (UNANSWERED, UNANSWERED));
        receipts.confirmed(&1_u64.to_be_bytes());
        assert_eq!(receipts.ask(now), Some((UNANSWERED as u64 + 1).to_be_bytes()));
        assert_eq!(receipts.ask(now), None);
    }
}
