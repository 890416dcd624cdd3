//! One process's output log: numbered events, bounded, read with cursors. No I/O.
//!
//! Bytes are stored once. An attached follower's pace, or a hold after a lost connection, decides whether the oldest
//! output may be evicted or the program has to wait.

use std::collections::VecDeque;
use std::num::NonZero;

use bytes::Bytes;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{Chunk, ExitDetails, Stream, StreamTotals};

/// The most chunks that are retained, so that a program that writes single bytes costs no more memory than another.
/// Chosen for speed.
const MOST_CHUNKS: usize = 16 << 10;

/// How many evicted positions are remembered to count a reader's loss.
const REMEMBERED_POSITIONS: usize = 512;

/// How a process ended, as the wire has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code of 8.6.
    pub code: i32,
    /// Everything else about the end.
    pub details: ExitDetails,
    /// The sandbox seems to be the reason (14.4), judging by the output so far.
    pub sandbox_denied: bool,
}

/// One event, as a follower sees it.
#[derive(Debug, Clone, Copy)]
pub enum LogEvent<'a> {
    /// A piece of output.
    Output(&'a Chunk<Bytes>),
    /// The child was reaped.
    Exited(Seq, &'a Exit),
    /// Exited, and all output seen.
    Closed(Seq),
}

/// The attached connection's place in the log.
#[derive(Debug, Clone, Copy)]
struct Follower {
    /// The last number before it attached: it has to read up to there what it missed.
    came: Seq,
    /// The last number that was sent to it.
    sent: Seq,
    /// The last number that it is known to have received: nothing later may be evicted.
    received: Seq,
}

/// The number of an event that there is or will be: never 0, so that an absent one takes no room in a process's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EventNumber(NonZero<u64>);

impl EventNumber {
    /// The first one after `seq`.
    const fn after(seq: Seq) -> Self {
        Self(NonZero::<u64>::MIN.saturating_add(seq.0))
    }

    const fn seq(self) -> Seq {
        Seq(self.0.get())
    }

    const fn previous(self) -> Seq {
        self.seq().previous()
    }
}

/// How many bytes were evicted up to certain numbers, in ascending order. Every second entry goes when there are too many.
#[derive(Debug, Default)]
struct Positions(VecDeque<(Seq, u64)>);

impl Positions {
    fn add(&mut self, seq: Seq, evicted: u64) {
        if self.0.len() == REMEMBERED_POSITIONS {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.0.push_back((seq, evicted));
    }

    /// The last number that was evicted.
    fn last(&self) -> Seq {
        self.0.back().map_or(Seq::NONE, |(seq, _)| *seq)
    }

    /// Bytes that were evicted up to `seq`, as far as that is known.
    fn known_up_to(&self, seq: Seq) -> u64 {
        let at = self.0.partition_point(|(position, _)| *position <= seq);
        at.checked_sub(1).and_then(|at| self.0.get(at)).map_or(0, |(_, evicted)| *evicted)
    }
}

/// What an earlier server has left of a log.
#[derive(Debug)]
pub(super) struct Left {
    /// The output that it retained, in order.
    pub(super) output: Vec<Chunk<Bytes>>,
    /// Each stream's total.
    pub(super) totals: StreamTotals,
    /// Bytes that were evicted.
    pub(super) evicted: u64,
    /// The last number that an event has.
    pub(super) last_seq: Seq,
    /// The exit, with its number.
    pub(super) exit: Option<(Seq, Exit)>,
    /// The last event was the close.
    pub(super) closed: bool,
}

/// The output log of one process.
#[derive(Debug)]
pub struct OutputLog {
    capacity: usize,
    chunks: VecDeque<Chunk<Bytes>>,
    retained: usize,
    next_seq: Seq,
    totals: StreamTotals,
    /// Bytes of all chunks that were evicted.
    evicted: u64,
    /// Where chunks were evicted. Most programs have none.
    positions: Option<Box<Positions>>,
    exit: Option<(Seq, Exit)>,
    closed: Option<EventNumber>,
    follower: Option<Follower>,
    /// After a lost connection, or for one reader: nothing from this number on is evicted.
    held: Option<EventNumber>,
    /// What the attachment that sets the pace has read: nothing after this number is evicted. [`Seq::MAX`] without one.
    reader: Seq,
    /// What the last follower had seen when its connection ended.
    seen: Seq,
    /// With a log on disk: the first number that is not written yet.
    unkept: Option<EventNumber>,
}

impl OutputLog {
    /// An empty log that retains `capacity` bytes; allocates nothing.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            chunks: VecDeque::new(),
            retained: 0,
            next_seq: Seq::FIRST,
            totals: StreamTotals::default(),
            evicted: 0,
            positions: None,
            exit: None,
            closed: None,
            follower: None,
            held: None,
            reader: Seq::MAX,
            seen: Seq::NONE,
            unkept: None,
        }
    }

    /// A log of which this is known, where an earlier server has left it. Everything is held until [`Self::release`], since a
    /// connection is gone that may have missed it.
    pub(super) fn restored(capacity: usize, left: Left) -> Self {
        let mut log = Self::new(capacity);
        log.chunks = left.output.into();
        log.retained = log.chunks.iter().map(|chunk| chunk.chunk.len()).sum();
        (log.totals, log.evicted) = (left.totals, left.evicted);
        log.next_seq = left.last_seq.next();
        log.exit = left.exit;
        log.closed = left.closed.then(|| EventNumber::after(left.last_seq.previous()));
        if log.evicted > 0 {
            let gone = log.before_oldest();
            log.positions.get_or_insert_default().add(gone, log.evicted);
        }
        log.held = Some(EventNumber::after(log.before_oldest()));
        log
    }

    /// The number that the next event will have.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Each stream's total since the start.
    pub fn totals(&self) -> StreamTotals {
        self.totals
    }

    /// The exit, once the child was reaped.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref().map(|(_, exit)| exit)
    }

    /// Whether the child was reaped and all output seen.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether more output may be read from the program now.
    ///
    /// Output on its way to a follower may take the log's capacity once more, so that a long way does not slow the program.
    /// A log that is held may not.
    pub fn has_room(&self) -> bool {
        let follows = self.unkept.is_some() || (self.follower.is_some() && self.held.is_none());
        let on_its_way = if follows { self.capacity } else { 0 };
        let fits = self.retained < self.capacity + on_its_way && self.chunks.len() < MOST_CHUNKS;
        fits || self.oldest_may_go()
    }

    fn oldest_may_go(&self) -> bool {
        let received = self.follower.map_or(Seq::MAX, |follower| follower.received);
        // What is on disk can be read there, so nothing has to be held.
        let pace = received.min(self.last_kept().or(self.last_free()).unwrap_or(Seq::MAX)).min(self.reader);
        self.chunks.front().is_none_or(|chunk| chunk.seq <= pace)
    }

    fn last_seq(&self) -> Seq {
        self.next_seq.previous()
    }

    fn take_seq(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        seq
    }

    /// Appends output, and evicts the oldest chunks that may go until the rest fits.
    pub fn append(&mut self, stream: Stream, bytes: Bytes) {
        let seq = self.take_seq();
        self.totals.add(stream, bytes.len() as u64);
        self.retained += bytes.len();
        self.chunks.push_back(Chunk { seq, stream, chunk: bytes });
        self.evict();
    }

    fn evict(&mut self) {
        while (self.retained > self.capacity || self.chunks.len() > MOST_CHUNKS) && self.oldest_may_go() {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.retained -= chunk.chunk.len();
            self.evicted += chunk.chunk.len() as u64;
            self.positions.get_or_insert_default().add(chunk.seq, self.evicted);
        }
    }

    /// All output that is retained, in order.
    pub fn retained(&self) -> impl Iterator<Item = &Chunk<Bytes>> {
        self.chunks.iter()
    }

    /// Gives the exit its number in the log; output may still follow.
    pub fn exited(&mut self, exit: Exit) -> Seq {
        let seq = self.take_seq();
        self.exit = Some((seq, exit));
        seq
    }

    /// Records the close: always the last event.
    pub fn closed(&mut self) -> Seq {
        self.closed = Some(EventNumber::after(self.last_seq()));
        self.take_seq()
    }

    /// A connection follows from now on. It reads what it missed (5.3), and a hold lasts until it has.
    pub fn attach(&mut self) {
        let last = self.last_seq();
        self.follower = Some(Follower { came: last, sent: last, received: last });
    }

    /// The connection is gone: everything retained is held until [`Self::release`]. After an `orderly` end the follower has
    /// seen all that was sent, otherwise only what it confirmed.
    pub fn detach(&mut self, orderly: bool) {
        let seen = |follower: Follower| if orderly { follower.sent } else { follower.received };
        // An earlier follower may have missed more, which still has to be read.
        self.seen = self.follower.take().map_or(self.seen, seen).min(self.last_free().unwrap_or(Seq::MAX));
        self.held = Some(EventNumber::after(self.before_oldest()));
    }

    /// Evicts nothing before [`Self::was_read`] names it: for a reader in this process, which sets the program's pace.
    pub fn hold(&mut self) {
        self.held = Some(EventNumber::after(self.last_seq()));
    }

    /// Ends the hold: with nobody attached, the oldest output is evicted from now on.
    pub fn release(&mut self) {
        self.held = None;
        self.evict();
    }

    /// An attachment has read everything up to this number. [`Seq::MAX`] says that none sets the pace any more.
    pub fn set_reader(&mut self, reader: Seq) {
        self.reader = reader;
        self.evict();
    }

    /// What the follower has not been sent yet, in order.
    pub fn unsent(&self) -> impl Iterator<Item = LogEvent<'_>> {
        self.events_after(self.follower.map_or(self.next_seq, |follower| follower.sent))
    }

    /// The follower was sent everything up to `seq`.
    pub fn sent(&mut self, seq: Seq) {
        if let Some(follower) = &mut self.follower {
            follower.sent = seq;
        }
    }

    /// The follower has received everything up to `seq`.
    pub fn received(&mut self, seq: Seq) {
        if let Some(follower) = &mut self.follower {
            follower.received = follower.received.max(seq.min(follower.sent));
            self.evict();
        }
    }

    /// Whether the follower was sent everything.
    pub fn all_sent(&self) -> bool {
        self.follower.is_none_or(|follower| follower.sent >= self.last_seq())
    }

    /// The number before the oldest chunk that is retained.
    pub(super) fn before_oldest(&self) -> Seq {
        self.chunks.front().map_or(self.next_seq, |chunk| chunk.seq).previous()
    }

    fn first_after(&self, seq: Seq) -> usize {
        self.chunks.partition_point(|chunk| chunk.seq <= seq)
    }

    fn events_after(&self, seq: Seq) -> impl Iterator<Item = LogEvent<'_>> {
        let mut chunks = self.chunks.range(self.first_after(seq)..).peekable();
        let mut exit = self.exit.as_ref().filter(|(at, _)| *at > seq);
        let mut closed = self.closed.map(EventNumber::seq).filter(|at| *at > seq);
        std::iter::from_fn(move || {
            let chunk_first = match (chunks.peek(), exit) {
                (Some(chunk), Some((at, _))) => chunk.seq < *at,
                (chunk, _) => chunk.is_some(),
            };
            if chunk_first {
                return chunks.next().map(LogEvent::Output);
            }
            if let Some((at, exit)) = exit.take() {
                return Some(LogEvent::Exited(*at, exit));
            }
            closed.take().map(LogEvent::Closed)
        })
    }

    /// Everything is written to disk as well from now on: nothing is evicted before.
    pub fn keep(&mut self) {
        self.unkept = Some(EventNumber::after(self.last_seq()));
    }

    /// The last number before those that are held, if any are.
    fn last_free(&self) -> Option<Seq> {
        self.held.map(EventNumber::previous)
    }

    /// The last number that is on disk, if there is a log on disk.
    fn last_kept(&self) -> Option<Seq> {
        self.unkept.map(EventNumber::previous)
    }

    /// What is not written to disk yet, in order.
    pub fn unkept(&self) -> impl Iterator<Item = LogEvent<'_>> {
        self.events_after(self.last_kept().unwrap_or(Seq::MAX))
    }

    /// Whether something is not written to disk yet.
    pub fn has_unkept(&self) -> bool {
        self.unkept.is_some_and(|unkept| unkept.seq() < self.next_seq)
    }

    /// Everything up to `seq` is on disk.
    pub fn kept(&mut self, seq: Seq) {
        if let Some(unkept) = &mut self.unkept {
            *unkept = EventNumber::after(seq);
            self.evict();
        }
    }

    /// The disk failed: nothing is written to it any more.
    pub fn keep_no_more(&mut self) {
        self.unkept = None;
        self.evict();
    }

    /// Where a read from byte `offset` of all streams begins: after which number, how many bytes of the next chunk it
    /// skips, and how many of the bytes that it wants are gone.
    pub fn place_of(&self, offset: u64) -> (Seq, usize, u64) {
        let mut begins = self.evicted;
        let mut after = self.before_oldest();
        let gone = begins.saturating_sub(offset);
        for chunk in &self.chunks {
            let ends = begins + chunk.chunk.len() as u64;
            if offset < ends {
                return (after, usize::try_from(offset.saturating_sub(begins)).unwrap_or(0), gone);
            }
            (begins, after) = (ends, chunk.seq);
        }
        (after, 0, gone)
    }

    /// Whether a read after `seq` has something to return (8.3): a chunk, also one that is gone, the close, or a newer exit.
    pub fn has_news_after(&self, seq: Seq) -> bool {
        self.closed.is_some()
            || self.positions.as_ref().is_some_and(|positions| positions.last() > seq)
            || self.exit.as_ref().is_some_and(|(at, _)| *at > seq)
            || self.chunks.back().is_some_and(|chunk| chunk.seq > seq)
    }

    /// The retained chunks after `seq`, at least one and at most `max_bytes` in all, and `nextSeq` (8.3 B).
    pub fn read(&self, after: Seq, max_bytes: Option<u64>) -> (Vec<Chunk<Bytes>>, Seq) {
        let mut chunks: Vec<Chunk<Bytes>> = Vec::new();
        let mut sum = 0_u64;
        for chunk in self.chunks.range(self.first_after(after)..) {
            sum = sum.saturating_add(chunk.chunk.len() as u64);
            if !chunks.is_empty() && max_bytes.is_some_and(|max| sum > max) {
                break;
            }
            chunks.push(chunk.clone());
        }
        let next = match (max_bytes, chunks.last()) {
            (Some(_), Some(last)) => last.seq.next(),
            _ => self.next_seq,
        };
        (chunks, next)
    }

    /// How many bytes after `seq` are gone: exact for recent evictions, and never too few.
    pub fn lost_after(&self, seq: Seq) -> u64 {
        self.evicted - self.positions.as_ref().map_or(0, |positions| positions.known_up_to(seq))
    }

    /// Whether something happened that the last follower had not seen.
    pub fn has_unseen(&self) -> bool {
        self.seen < self.last_seq()
    }

    /// Whether output is held for a connection that was lost.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// A reader has received everything up to `seq`: a hold moves there, or ends when nothing more was missed.
    pub fn was_read(&mut self, seq: Seq) {
        let caught_up = self.follower.is_some_and(|follower| seq >= follower.came);
        match &mut self.held {
            Some(_) if caught_up => self.held = None,
            Some(held) => *held = (*held).max(EventNumber::after(seq)),
            None => return,
        }
        self.evict();
    }
}

#[cfg(test)]
mod tests;
