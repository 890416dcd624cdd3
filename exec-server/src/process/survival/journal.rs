//! Writes a program's log into memory that outlives this process: what is read from the program stands there from the moment on
//! at which the kernel has given it.
//!
//! Each change is published with one store, after all that it tells of is written. What a killed process may have done without
//! saying so is a read that the kernel had finished. It is found thus: before it, the place that it goes to is marked, and
//! whether the marks are still there tells whether the bytes came ([`super::replay`]).

mod growth;
mod input;

use std::os::fd::OwnedFd;

use bytes::Bytes;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{Stream, StreamTotals};
use rustix::io::Errno;

use super::layout::{self, Content, Layout, RECORD, flag, get, set, word};
use super::memory::Memory;
use super::replay::Found;
use super::room::Room;

/// The most that a terminal gives at once, in bytes (the kernel's N_TTY_BUF_SIZE).
const TERMINAL_BUFFER: usize = 4096;
/// A read of fewer bytes than this has emptied it.
const FEW_OF_A_TERMINAL: usize = 1024;
/// Input is written in pieces of this many bytes (the kernel's PIPE_BUF): a pipe takes each whole or not at all.
pub(super) const INPUT_PIECE: usize = 4096;

/// What was read at once.
pub(in crate::process) struct Read {
    /// Empty at the end.
    pub(in crate::process) bytes: Bytes,
    /// How many reads it took.
    pub(in crate::process) reads: usize,
    /// Nothing was left to read.
    pub(in crate::process) emptied: bool,
}

/// The log of a program in such memory; the one writer of it.
pub(super) struct Journal {
    memory: Memory,
    layout: Layout,
    /// What makes larger memory, once.
    room: Option<Box<dyn Room>>,
    end: u64,
    begin: u64,
    last_seq: Seq,
    totals: StreamTotals,
    staged: u64,
    ids: u64,
    input_end: u64,
    input_begin: u64,
    pattern: [u8; layout::PATTERN],
    /// The memory could not be made: nothing is written any more.
    given_up: bool,
}

impl Journal {
    /// Begins an empty log. With `room`, it may grow.
    pub(super) fn begin(memory: Memory, layout: Layout, room: Option<Box<dyn Room>>) -> Self {
        // What stood there before counts no more.
        set(&memory, word::SCHEMA, 0);
        memory.fill(8, layout::HEAD - 8, 0);
        let pattern: [u8; layout::PATTERN] = rand::random();
        memory.put(word::PATTERN, &pattern);
        layout.write(&memory);
        Self {
            memory,
            layout,
            room,
            end: 0,
            begin: 0,
            last_seq: Seq::NONE,
            totals: StreamTotals::default(),
            staged: 0,
            ids: 0,
            input_end: 0,
            input_begin: 0,
            pattern,
            given_up: false,
        }
    }

    /// Goes on with a log that an earlier server wrote, behind what was found in it.
    pub(super) fn resume(memory: Memory, layout: Layout, found: &Found, room: Option<Box<dyn Room>>) -> Self {
        let mut pattern = [0; layout::PATTERN];
        memory
            .get(word::PATTERN, layout::PATTERN)
            .iter()
            .zip(&mut pattern)
            .for_each(|(from, to)| *to = *from);
        let mut journal = Self {
            end: get(&memory, word::RECORDS_END),
            begin: get(&memory, word::RECORDS_BEGIN),
            staged: found.staged_end,
            ids: get(&memory, word::IDS_END),
            input_end: get(&memory, word::INPUT_END),
            input_begin: get(&memory, word::INPUT_BEGIN),
            given_up: found.given_up,
            last_seq: found.last_seq,
            totals: found.totals,
            memory,
            layout,
            room,
            pattern,
        };
        if let Some((stream, length)) = found.unsaid {
            // It stands in its place already.
            journal.last_seq = found.last_seq.previous();
            journal.totals = found.totals_before();
            let place = layout.ring + place_in(journal.end, layout.ring_size);
            journal.publish(place, stream, length, 0);
        }
        set(&journal.memory, word::STAGED_END, journal.staged);
        if found.input_lost {
            journal.input_is_empty();
        }
        journal
    }

    /// Nothing is kept any more: the next server ends the program.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.flag(flag::GIVEN_UP, true);
    }

    // ---- output

    /// Reads a chunk from a pipe into the log. Of the output up to `free` nothing has to be kept. `None`: nothing is kept here.
    pub(super) fn read_pipe(
        &mut self,
        fd: &OwnedFd,
        stream: Stream,
        chunk_bytes: usize,
        free: Seq,
    ) -> Option<Result<Read, Errno>> {
        let there = match rustix::io::ioctl_fionread(fd) {
            Ok(there) => usize::try_from(there).unwrap_or(usize::MAX),
            Err(error) => return Some(Err(error)),
        };
        // As many as are there come for certain. Where none are, one read tells why; a byte may come just then.
        let wanted = there.clamp(1, chunk_bytes.max(1));
        let place = self.make_place(wanted, free)?;
        let target = self.announce(place, stream, wanted);
        let count = match rustix::io::read(fd, self.memory.target(target, wanted)) {
            Ok((filled, _)) => filled.len(),
            Err(error) => {
                set(&self.memory, word::WANTED, 0);
                return Some(Err(error));
            }
        };
        if count == 0 {
            set(&self.memory, word::WANTED, 0);
            return Some(Ok(Read { bytes: Bytes::new(), reads: 1, emptied: false }));
        }
        let bytes = Bytes::from(self.memory.get(target, count));
        self.publish(place, stream, count, 0);
        // What was written meanwhile has woken us only if the pipe was empty for a moment.
        let emptied = count < chunk_bytes && rustix::io::ioctl_fionread(fd).is_ok_and(|left| left == 0);
        Some(Ok(Read { bytes, reads: 1, emptied }))
    }

    /// Reads from a terminal, until the chunk is full or nothing is left, into the place of what is not output yet.
    pub(super) fn read_terminal(&mut self, fd: &OwnedFd, chunk_bytes: usize) -> Option<Result<Read, Errno>> {
        if self.layout.staged_size == 0 && !self.grow() {
            return None;
        }
        let from = self.staged;
        let (mut reads, mut bytes) = (0, Vec::new());
        let emptied = loop {
            let at = place_in(self.staged, self.layout.staged_size);
            let left = chunk_bytes.saturating_sub(bytes.len()).min(self.layout.staged_size / 2);
            let wanted = left.min(TERMINAL_BUFFER).min(self.layout.staged_size - at);
            let target = self.announce_terminal(wanted);
            let count = match rustix::io::read(fd, self.memory.target(target, wanted)) {
                Ok((filled, _)) => filled.len(),
                // What was read so far comes first; the next read gets the same error.
                Err(error) if reads > 0 => break error == Errno::AGAIN,
                Err(error) => {
                    set(&self.memory, word::STAGED_WANTED, 0);
                    return Some(Err(error));
                }
            };
            reads += 1;
            bytes.extend_from_slice(&self.memory.get(target, count));
            self.staged += count as u64;
            set(&self.memory, word::STAGED_END, self.staged);
            if count == 0 || count < FEW_OF_A_TERMINAL.min(wanted) {
                break count > 0;
            }
            if chunk_bytes.saturating_sub(bytes.len()) < TERMINAL_BUFFER {
                break false;
            }
        };
        debug_assert!(self.staged - from <= self.layout.staged_size as u64);
        Some(Ok(Read { bytes: bytes.into(), reads, emptied }))
    }

    /// Appends what a terminal's bytes came to. `held_back` of the last bytes that were read are not part of it.
    pub(super) fn append_terminal(&mut self, bytes: &[u8], held_back: usize, free: Seq) {
        let Some(place) = self.make_place(bytes.len(), free) else { return };
        self.memory.put(place + RECORD, bytes);
        self.publish(place, Stream::Pty, bytes.len(), self.staged.saturating_sub(held_back as u64));
    }

    /// Says that so many bytes are about to be read into the record at `place`; where they go.
    fn announce(&self, place: usize, stream: Stream, wanted: usize) -> usize {
        let target = place + RECORD;
        set(&self.memory, word::WANTED, 0);
        self.mark(target, wanted);
        set(&self.memory, word::WANTED_STREAM, content_of(stream).number());
        set(&self.memory, word::WANTED_AT, self.end);
        // Last: it says that the rest is there.
        set(&self.memory, word::WANTED, wanted as u64);
        target
    }

    /// The same of a terminal.
    fn announce_terminal(&self, wanted: usize) -> usize {
        let target = self.layout.staged + place_in(self.staged, self.layout.staged_size);
        set(&self.memory, word::STAGED_WANTED, 0);
        self.memory.fill(target, wanted, layout::UNREAD);
        set(&self.memory, word::STAGED_AT, self.staged);
        set(&self.memory, word::STAGED_WANTED, wanted as u64);
        target
    }

    /// Marks a place, so that it can be told whether the kernel has filled it.
    fn mark(&self, target: usize, length: usize) {
        let (Marks { from, length }, pattern) = marks(&self.pattern, length);
        self.memory.put(target + from, pattern.get(..length).unwrap_or_default());
    }

    /// Makes the record at `place` one of the log's.
    fn publish(&mut self, place: usize, stream: Stream, length: usize, staged: u64) {
        self.last_seq = self.last_seq.next();
        let StreamTotals { stdout, stderr, pty } = self.totals;
        let head = length as u64 | content_of(stream).number() << 48;
        for (index, number) in [head, self.last_seq.0, stdout, stderr, pty, staged].into_iter().enumerate() {
            set(&self.memory, place + 8 * index, number);
        }
        self.totals.add(stream, length as u64);
        self.end += record_size(length) as u64;
        set(&self.memory, word::RECORDS_END, self.end);
    }

    /// Where a record of this length goes: behind the last, in one piece. Of the oldest ones goes what may, or has to.
    fn make_place(&mut self, length: usize, free: Seq) -> Option<usize> {
        if self.given_up {
            return None;
        }
        if free > Seq::NONE {
            set(&self.memory, word::EVICTED, free.0);
        }
        let needed = record_size(length);
        // Two records of the longest kind always fit, so that the last one is never given up for the next.
        if needed > self.layout.ring_size / 2 {
            return if self.grow() { self.make_place(length, free) } else { None };
        }
        loop {
            let size = self.layout.ring_size;
            let at = place_in(self.end, size);
            let (skipped, at) = if size - at < needed { (size - at, 0) } else { (0, at) };
            if self.used() + skipped + needed <= size {
                if skipped > 0 {
                    self.pad(skipped);
                }
                return Some(self.layout.ring + at);
            }
            if self.let_go(free) {
                continue;
            }
            if self.room.is_some() {
                return if self.grow() { self.make_place(length, free) } else { None };
            }
            // There is room for all that a log holds. Where a fault has it hold more, the oldest goes.
            if !self.let_go(Seq::MAX) {
                self.give_up();
                return None;
            }
        }
    }

    fn used(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.begin)).unwrap_or(usize::MAX)
    }

    /// Goes on at the start of the ring.
    fn pad(&mut self, skipped: usize) {
        let place = self.layout.ring + place_in(self.end, self.layout.ring_size);
        if skipped >= RECORD {
            set(&self.memory, place, (skipped - RECORD) as u64 | Content::Padding.number() << 48);
        }
        self.end += skipped as u64;
        set(&self.memory, word::RECORDS_END, self.end);
    }

    /// Gives up the oldest record, if it is not needed.
    fn let_go(&mut self, free: Seq) -> bool {
        let size = self.layout.ring_size;
        let at = place_in(self.begin, size);
        if self.begin >= self.end {
            return false;
        }
        let place = self.layout.ring + at;
        let head = get(&self.memory, place);
        let padding = size - at < RECORD || Content::of(head >> 48) == Some(Content::Padding);
        let gone = if padding {
            size - at
        } else {
            if Seq(get(&self.memory, place + 8)) > free {
                return false;
            }
            record_size(usize::try_from(head & layout::LENGTH).unwrap_or(0))
        };
        let begin = self.begin + gone as u64;
        if begin >= self.end {
            // Of an empty ring the head says how far it is.
            self.write_base();
        }
        self.begin = begin;
        set(&self.memory, word::RECORDS_BEGIN, begin);
        true
    }

    fn write_base(&self) {
        let StreamTotals { stdout, stderr, pty } = self.totals;
        set(&self.memory, word::BASE_SEQ, self.last_seq.0);
        for (index, total) in [stdout, stderr, pty].into_iter().enumerate() {
            set(&self.memory, word::BASE_TOTALS + 8 * index, total);
        }
    }

    // ---- events

    /// The child has ended thus, and is reaped next.
    pub(super) fn ending(&mut self, said: &[u8]) {
        if said.len() <= layout::ENDING_ROOM && !self.given_up {
            self.memory.put(word::ENDING, said);
            set(&self.memory, word::ENDING_LENGTH, said.len() as u64);
        }
    }

    /// The exit has this number.
    pub(super) fn exited(&mut self, seq: Seq, said: &[u8]) {
        self.last_seq = self.last_seq.max(seq);
        if said.len() <= layout::EXIT_ROOM && !self.given_up {
            self.memory.put(word::EXIT, said);
            set(&self.memory, word::EXIT_LENGTH, said.len() as u64);
            set(&self.memory, word::EXIT_SEQ, seq.0);
        }
    }

    /// The close has this number.
    pub(super) fn closed(&mut self, seq: Seq) {
        self.last_seq = self.last_seq.max(seq);
        if !self.given_up {
            set(&self.memory, word::CLOSED_SEQ, seq.0);
        }
    }

    /// Sets or clears bits of the flags.
    pub(super) fn flag(&self, bits: u64, on: bool) {
        let flags = get(&self.memory, word::FLAGS);
        set(&self.memory, word::FLAGS, if on { flags | bits } else { flags & !bits });
    }

    /// When SIGKILL follows; 0: never.
    pub(super) fn kill_at(&self, boot_ms: u64) {
        set(&self.memory, word::KILL_AT, boot_ms);
    }
}

#[cfg(test)]
impl Journal {
    /// All of a read that comes before the system call; where that reads to.
    pub(super) fn intend(&mut self, stream: Stream, wanted: usize) -> Option<usize> {
        let place = self.make_place(wanted, Seq::NONE)?;
        Some(self.announce(place, stream, wanted))
    }

    /// The same of a terminal.
    pub(super) fn intend_terminal(&mut self, wanted: usize) -> usize {
        self.announce_terminal(wanted)
    }
}

/// Which bytes of a place are marked.
pub(super) struct Marks {
    pub(super) from: usize,
    pub(super) length: usize,
}

/// The marks of a place of this length: the last bytes, since the kernel fills it in order. Where there are few, a byte that no text
/// has: of random ones a program's output might be the same.
pub(super) fn marks(pattern: &[u8; layout::PATTERN], length: usize) -> (Marks, [u8; layout::PATTERN]) {
    match length.checked_sub(layout::PATTERN) {
        Some(from) => (Marks { from, length: layout::PATTERN }, *pattern),
        None => (Marks { from: 0, length }, [0xff; layout::PATTERN]),
    }
}

/// Bytes that a record takes.
pub(super) const fn record_size(length: usize) -> usize {
    RECORD + length.next_multiple_of(8)
}

/// The place of a position in a part of this size.
pub(super) fn place_in(position: u64, size: usize) -> usize {
    usize::try_from(position % size.max(1) as u64).unwrap_or(0)
}

const fn content_of(stream: Stream) -> Content {
    match stream {
        Stream::Stdout => Content::Stdout,
        Stream::Stderr => Content::Stderr,
        Stream::Pty => Content::Terminal,
    }
}
