//! Reads a program's log from memory that an earlier server has written. What stands there is taken for what it says as far as it can
//! be true: another build, or a fault, may have written it.

use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{LoggedExit, Stream, StreamTotals};

use super::journal::{Marks, marks, place_in, record_size};
use super::layout::{self, Content, Layout, RECORD, flag, get, word};
use super::memory::Memory;

/// The most records that are read: more than any log holds. A safeguard, far from any real use.
const MOST_RECORDS: usize = 1 << 20;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: Seq,
    pub(super) stream: Stream,
    pub(super) bytes: Vec<u8>,
    /// The totals before it.
    pub(super) before: StreamTotals,
    /// Of a terminal: it is what came of its bytes up to this position.
    pub(super) staged: u64,
}

/// All that an earlier server has left of a program.
#[derive(Debug, Default)]
pub(in crate::process) struct Found {
    /// The output that the log retains, in order.
    pub(in crate::process) output: Vec<(Seq, Stream, Vec<u8>)>,
    /// The totals of the streams with that.
    pub(in crate::process) totals: StreamTotals,
    /// Bytes that were evicted before it.
    pub(in crate::process) evicted: u64,
    /// The last number that was given to an event.
    pub(in crate::process) last_seq: Seq,
    /// The exit, with its number.
    pub(in crate::process) exit: Option<(Seq, LoggedExit)>,
    /// Whether it was closed.
    pub(in crate::process) closed: bool,
    /// What was noted of the child's end before it was reaped.
    pub(in crate::process) ending: Vec<u8>,
    /// What a terminal has given, and is not output yet.
    pub(in crate::process) staged: Vec<u8>,
    /// Hashes of the writes that were accepted, the oldest first.
    pub(in crate::process) ids: Vec<[u8; layout::ID]>,
    /// Input that was accepted and is not written.
    pub(in crate::process) input: Vec<u8>,
    /// Some of that is not known any more.
    pub(in crate::process) input_lost: bool,
    /// It is to end behind that.
    pub(in crate::process) input_ended: bool,
    /// Somebody asked for the end.
    pub(in crate::process) terminated: bool,
    /// A deadline asked for the end.
    pub(in crate::process) timed_out: bool,
    /// When SIGKILL follows, in milliseconds of the boot clock.
    pub(in crate::process) kill_at: Option<u64>,
    /// The output was not kept to its end.
    pub(in crate::process) given_up: bool,
    /// The last of the output was read by the kernel, and the earlier server had not said so: of which stream it is, and how long.
    pub(super) unsaid: Option<(Stream, usize)>,
    /// Bytes of a terminal up to the end of `staged`.
    pub(super) staged_end: u64,
    /// The memory that counts instead of this.
    pub(in crate::process) moved: Option<u64>,
}

impl Found {
    /// The totals without what nobody had said to be there.
    pub(super) fn totals_before(&self) -> StreamTotals {
        let mut totals = self.totals;
        if let Some((stream, length)) = self.unsaid {
            let place = match stream {
                Stream::Stdout => &mut totals.stdout,
                Stream::Stderr => &mut totals.stderr,
                Stream::Pty => &mut totals.pty,
            };
            *place = place.saturating_sub(length as u64);
        }
        totals
    }
}

/// The records of the ring that can be read, in order.
pub(super) fn records(memory: &Memory, layout: &Layout) -> Vec<Record> {
    let (mut at, end) = (get(memory, word::RECORDS_BEGIN), get(memory, word::RECORDS_END));
    let size = layout.ring_size;
    let mut records: Vec<Record> = Vec::new();
    if end.checked_sub(at).is_none_or(|used| used > size as u64) || !at.is_multiple_of(8) {
        return records;
    }
    while at < end && records.len() < MOST_RECORDS {
        let offset = place_in(at, size);
        let place = layout.ring + offset;
        let head = get(memory, place);
        let content = Content::of(head >> 48);
        if size - offset < RECORD || content == Some(Content::Padding) {
            at += (size - offset) as u64;
            continue;
        }
        let length = usize::try_from(head & layout::LENGTH).unwrap_or(usize::MAX);
        let fits = length <= size - offset - RECORD && at + record_size(length) as u64 <= end;
        let (Some(stream), true) = (content.and_then(stream_of), fits) else { break };
        let number = |index: usize| get(memory, place + 8 * index);
        let seq = Seq(number(1));
        if records.last().is_some_and(|last| last.seq >= seq) {
            break;
        }
        records.push(Record {
            seq,
            stream,
            bytes: memory.get(place + RECORD, length),
            before: StreamTotals { stdout: number(2), stderr: number(3), pty: number(4) },
            staged: number(5),
        });
        at += record_size(length) as u64;
    }
    records
}

const fn stream_of(content: Content) -> Option<Stream> {
    match content {
        Content::Stdout => Some(Stream::Stdout),
        Content::Stderr => Some(Stream::Stderr),
        Content::Terminal => Some(Stream::Pty),
        Content::Padding => None,
    }
}

/// What is left of a program in this memory, and where its log goes on. None if that is no log. A read that the kernel had
/// finished, and nobody had said so of, is made a part of the log.
pub(super) fn replay(memory: &Memory) -> Option<(Layout, Found)> {
    let layout = Layout::read(memory)?;
    let mut found = Found { last_seq: Seq(get(memory, word::BASE_SEQ)), ..Found::default() };
    let [stdout, stderr, pty] = [0, 8, 16].map(|at| get(memory, word::BASE_TOTALS + at));
    found.totals = StreamTotals { stdout, stderr, pty };
    let mut records = records(memory, &layout);
    let mut staged_to = 0;
    if let Some(last) = records.last() {
        (found.last_seq, found.totals) = (last.seq, last.before);
        found.totals.add(last.stream, last.bytes.len() as u64);
        staged_to = records.iter().map(|record| record.staged).max().unwrap_or(0);
    }
    read_exit(memory, &mut found);
    if let Some((stream, bytes)) = unsaid(memory, &layout) {
        let record = Record { seq: found.last_seq.next(), stream, bytes, before: found.totals, staged: 0 };
        found.unsaid = Some((record.stream, record.bytes.len()));
        found.last_seq = record.seq;
        found.totals.add(record.stream, record.bytes.len() as u64);
        records.push(record);
    }
    let evicted = Seq(get(memory, word::EVICTED));
    records.retain(|record| record.seq > evicted);
    found.evicted = records.first().map_or(found.totals, |first| first.before).sum();
    found.output = records.into_iter().map(|record| (record.seq, record.stream, record.bytes)).collect();
    found.staged = staged(memory, &layout, staged_to);
    found.staged_end = staged_to + found.staged.len() as u64;
    read_input(memory, &layout, &mut found);
    let flags = get(memory, word::FLAGS);
    found.input_lost |= flags & flag::INPUT_UNKNOWN != 0;
    found.input_ended = flags & flag::INPUT_ENDED != 0;
    found.terminated = flags & flag::TERMINATED != 0;
    found.timed_out = flags & flag::TIMED_OUT != 0;
    found.given_up = flags & flag::GIVEN_UP != 0;
    found.kill_at = Some(get(memory, word::KILL_AT)).filter(|at| *at != 0);
    found.moved = Some(get(memory, word::MOVED)).filter(|key| *key != 0);
    Some((layout, found))
}

fn read_exit(memory: &Memory, found: &mut Found) {
    let length = |at, room| usize::try_from(get(memory, at)).unwrap_or(0).min(room);
    found.ending = memory.get(word::ENDING, length(word::ENDING_LENGTH, layout::ENDING_ROOM));
    let seq = Seq(get(memory, word::EXIT_SEQ));
    if seq > Seq::NONE {
        let said = memory.get(word::EXIT, length(word::EXIT_LENGTH, layout::EXIT_ROOM));
        found.exit = serde_json::from_slice(&said).ok().map(|exit| (seq, exit));
    }
    if found.exit.is_some() {
        found.last_seq = found.last_seq.max(seq);
        let closed = Seq(get(memory, word::CLOSED_SEQ));
        found.closed = closed > seq;
        found.last_seq = found.last_seq.max(closed);
    }
}

/// A read from a pipe that the kernel had finished: its bytes, which nobody has said to be there.
fn unsaid(memory: &Memory, layout: &Layout) -> Option<(Stream, Vec<u8>)> {
    let end = get(memory, word::RECORDS_END);
    let wanted = usize::try_from(get(memory, word::WANTED)).ok()?;
    let stream = Content::of(get(memory, word::WANTED_STREAM)).and_then(stream_of)?;
    let offset = place_in(end, layout.ring_size);
    let fits = wanted > 0 && record_size(wanted) <= layout.ring_size - offset;
    if get(memory, word::WANTED_AT) != end || !fits || !end.is_multiple_of(8) {
        return None;
    }
    let bytes = memory.get(layout.ring + offset + RECORD, wanted);
    let mut pattern = [0; layout::PATTERN];
    pattern.copy_from_slice(&memory.get(word::PATTERN, layout::PATTERN));
    let (Marks { from, length }, pattern) = marks(&pattern, wanted);
    let is_marked = bytes.get(from..from + length) == pattern.get(..length);
    (!is_marked).then_some((stream, bytes))
}

/// A terminal's bytes behind position `from`, with those that the kernel had given and nobody has said to be there.
fn staged(memory: &Memory, layout: &Layout, from: u64) -> Vec<u8> {
    let (end, size) = (get(memory, word::STAGED_END), layout.staged_size);
    let mut bytes = ring_bytes(memory, layout.staged, size, from, end);
    let wanted = usize::try_from(get(memory, word::STAGED_WANTED)).unwrap_or(usize::MAX);
    if size > 0 && get(memory, word::STAGED_AT) == end && wanted <= size - place_in(end, size) {
        let mut more = memory.get(layout.staged + place_in(end, size), wanted);
        let came = more.iter().rposition(|byte| *byte != layout::UNREAD).map_or(0, |last| last + 1);
        more.truncate(came);
        bytes.extend(more);
    }
    bytes
}

fn read_input(memory: &Memory, layout: &Layout, found: &mut Found) {
    let (begin, end) = (get(memory, word::INPUT_BEGIN), get(memory, word::INPUT_END));
    found.input = ring_bytes(memory, layout.input, layout.input_size, begin, end);
    found.input_lost = found.input.len() as u64 != end.saturating_sub(begin);
    let slots = layout.ids_size / layout::ID;
    let count = get(memory, word::IDS_END);
    let known = usize::try_from(count).unwrap_or(usize::MAX).min(slots);
    found.ids = (count.saturating_sub(known as u64)..count)
        .map(|number| {
            let mut id = [0; layout::ID];
            let at = layout.ids + place_in(number, slots) * layout::ID;
            memory.get(at, layout::ID).iter().zip(&mut id).for_each(|(from, to)| *to = *from);
            id
        })
        .collect();
}

/// The bytes between two positions of a ring; nothing where that can't be.
fn ring_bytes(memory: &Memory, part: usize, size: usize, begin: u64, end: u64) -> Vec<u8> {
    let Some(length) = end.checked_sub(begin).and_then(|length| usize::try_from(length).ok()) else {
        return Vec::new();
    };
    if length > size || length == 0 {
        return Vec::new();
    }
    let at = place_in(begin, size);
    let first = length.min(size - at);
    let mut bytes = memory.get(part + at, first);
    bytes.extend(memory.get(part, length - first));
    bytes
}
