//! Where things stand in the memory that a program's log is kept in. The sizes stand in its head, so that a build with other sizes
//! reads it; another [`SCHEMA`] is refused.
//!
//! A head of 1 KiB is followed by a ring of output records, and in large memory by the hashes of write ids, the input that waits to
//! be read by the program, and the bytes of a terminal that are not output yet. Positions in these count all bytes ever
//! put there; the place is the position modulo the size. All numbers are of this machine's byte order.

use sha2::{Digest, Sha256};

use super::memory::Memory;

/// "codexlog" and the number of this layout, which changes with the meaning of what is there.
pub(super) const SCHEMA: u64 = 0x636f_6465_786c_0001;
/// Bytes of the head.
pub(super) const HEAD: usize = 1024;
/// The bits of a record's first number that are its length; those above say what it holds.
pub(super) const LENGTH: u64 = (1 << 48) - 1;
/// Bytes of a record's head.
pub(super) const RECORD: usize = 48;
/// Bytes that are kept of a write id.
pub(super) const ID: usize = 16;
/// Bytes that tell whether the kernel has filled a place.
pub(super) const PATTERN: usize = 16;
/// What the place of a terminal's output is filled with: no text in UTF-8 has it.
pub(super) const UNREAD: u8 = 0xc1;

/// Offsets of the numbers in the head.
pub(super) mod word {
    pub(in crate::process::survival) const SCHEMA: usize = 0;
    pub(in crate::process::survival) const RING: usize = 8;
    pub(in crate::process::survival) const RING_SIZE: usize = 16;
    pub(in crate::process::survival) const IDS: usize = 24;
    pub(in crate::process::survival) const IDS_SIZE: usize = 32;
    pub(in crate::process::survival) const INPUT: usize = 40;
    pub(in crate::process::survival) const INPUT_SIZE: usize = 48;
    pub(in crate::process::survival) const STAGED: usize = 56;
    pub(in crate::process::survival) const STAGED_SIZE: usize = 64;
    /// Behind the last record.
    pub(in crate::process::survival) const RECORDS_END: usize = 72;
    /// The oldest record.
    pub(in crate::process::survival) const RECORDS_BEGIN: usize = 80;
    /// The last number that the log has evicted.
    pub(in crate::process::survival) const EVICTED: usize = 88;
    /// Of an empty ring: the last number, and the totals of the three streams.
    pub(in crate::process::survival) const BASE_SEQ: usize = 96;
    pub(in crate::process::survival) const BASE_TOTALS: usize = 104;
    /// How many bytes are being read behind the last record, and of which stream.
    pub(in crate::process::survival) const WANTED: usize = 128;
    pub(in crate::process::survival) const WANTED_STREAM: usize = 136;
    /// At which position of the ring.
    pub(in crate::process::survival) const WANTED_AT: usize = 144;
    /// Bytes of a terminal that were read, and how many are being read.
    pub(in crate::process::survival) const STAGED_END: usize = 152;
    pub(in crate::process::survival) const STAGED_WANTED: usize = 160;
    /// Write ids so far.
    pub(in crate::process::survival) const IDS_END: usize = 168;
    /// Input that was accepted, and input that was written.
    pub(in crate::process::survival) const INPUT_END: usize = 176;
    pub(in crate::process::survival) const INPUT_BEGIN: usize = 184;
    /// See [`super::flag`].
    pub(in crate::process::survival) const FLAGS: usize = 192;
    /// The key of the larger memory that counts instead of this.
    pub(in crate::process::survival) const MOVED: usize = 200;
    /// The number of the exit, and the length of what is said of it.
    pub(in crate::process::survival) const EXIT_SEQ: usize = 208;
    pub(in crate::process::survival) const EXIT_LENGTH: usize = 216;
    pub(in crate::process::survival) const CLOSED_SEQ: usize = 224;
    /// When SIGKILL follows, in milliseconds of the boot clock; 0: never.
    pub(in crate::process::survival) const KILL_AT: usize = 232;
    /// The length of what is said of the end of the child, before it is reaped.
    pub(in crate::process::survival) const ENDING_LENGTH: usize = 240;
    /// 16 bytes that nobody else knows.
    pub(in crate::process::survival) const PATTERN: usize = 248;
    /// At which position of a terminal's bytes they are being read.
    pub(in crate::process::survival) const STAGED_AT: usize = 264;
    /// What is said of the end, and of the exit.
    pub(in crate::process::survival) const ENDING: usize = 272;
    pub(in crate::process::survival) const EXIT: usize = 464;
}

/// Bytes that there is room for in the head, of what is said of an end.
pub(super) const ENDING_ROOM: usize = word::EXIT - word::ENDING;
/// The same of an exit.
pub(super) const EXIT_ROOM: usize = HEAD - word::EXIT;

/// Bits of [`word::FLAGS`].
pub(super) mod flag {
    /// The input is to end behind what is queued.
    pub(in crate::process::survival) const INPUT_ENDED: u64 = 1;
    /// More input is queued than there is room for here.
    pub(in crate::process::survival) const INPUT_UNKNOWN: u64 = 1 << 1;
    /// Somebody asked for the end.
    pub(in crate::process::survival) const TERMINATED: u64 = 1 << 2;
    /// A deadline asked for the end.
    pub(in crate::process::survival) const TIMED_OUT: u64 = 1 << 3;
    /// The log is not kept here any more.
    pub(in crate::process::survival) const GIVEN_UP: u64 = 1 << 4;
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Stdout,
    Stderr,
    Terminal,
    /// Nothing: the next record begins at the start of the ring.
    Padding,
}

impl Content {
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Terminal => 3,
            Self::Padding => 4,
        }
    }

    pub(super) const fn of(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Terminal),
            4 => Some(Self::Padding),
            _ => None,
        }
    }
}

/// Where the parts of such memory begin, and how large they are, in bytes. All are multiples of 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) ring: usize,
    pub(super) ring_size: usize,
    pub(super) ids: usize,
    pub(super) ids_size: usize,
    pub(super) input: usize,
    pub(super) input_size: usize,
    pub(super) staged: usize,
    pub(super) staged_size: usize,
}

const WORDS: [usize; 8] = [
    word::RING,
    word::RING_SIZE,
    word::IDS,
    word::IDS_SIZE,
    word::INPUT,
    word::INPUT_SIZE,
    word::STAGED,
    word::STAGED_SIZE,
];

impl Layout {
    /// Of memory that holds a ring of this size at most, and these other parts.
    pub(super) fn new(ring_size: usize, ids_size: usize, input_size: usize, staged_size: usize) -> Self {
        let [ring_size, ids_size, input_size, staged_size] =
            [ring_size, ids_size, input_size, staged_size].map(|size| size.next_multiple_of(8));
        let ring = HEAD;
        let ids = ring + ring_size;
        let input = ids + ids_size;
        let staged = input + input_size;
        Self { ring, ring_size, ids, ids_size, input, input_size, staged, staged_size }
    }

    /// Bytes in all.
    pub(super) fn size(&self) -> usize {
        (self.staged + self.staged_size).next_multiple_of(4096)
    }

    fn numbers(&self) -> [usize; 8] {
        let Self { ring, ring_size, ids, ids_size, input, input_size, staged, staged_size } = *self;
        [ring, ring_size, ids, ids_size, input, input_size, staged, staged_size]
    }

    /// Writes it into memory, as the last of what makes that a log.
    pub(super) fn write(&self, memory: &Memory) {
        for (at, number) in WORDS.into_iter().zip(self.numbers()) {
            set(memory, at, number as u64);
        }
        set(memory, word::SCHEMA, SCHEMA);
    }

    /// What memory says of itself; none if that is no such log, or can't be true.
    pub(super) fn read(memory: &Memory) -> Option<Self> {
        if get(memory, word::SCHEMA) != SCHEMA || memory.size() < HEAD {
            return None;
        }
        let [ring, ring_size, ids, ids_size, input, input_size, staged, staged_size] =
            WORDS.map(|at| usize::try_from(get(memory, at)).unwrap_or(usize::MAX));
        let fits = |from: usize, size: usize| {
            let end = from.checked_add(size);
            from >= HEAD
                && from.is_multiple_of(8)
                && size.is_multiple_of(8)
                && end.is_some_and(|end| end <= memory.size())
        };
        let parts = [(ring, ring_size), (ids, ids_size), (input, input_size), (staged, staged_size)];
        let all_fit = parts.into_iter().all(|(from, size)| fits(from, size));
        (all_fit && ring_size >= RECORD).then_some(Self {
            ring,
            ring_size,
            ids,
            ids_size,
            input,
            input_size,
            staged,
            staged_size,
        })
    }
}

/// A number in the memory; 0 where there is none.
pub(super) fn get(memory: &Memory, at: usize) -> u64 {
    memory.word(at).map_or(0, |word| word.load(std::sync::atomic::Ordering::Acquire))
}

/// Sets a number in the memory. Whoever sees it sees what was written before.
pub(super) fn set(memory: &Memory, at: usize, number: u64) {
    if let Some(word) = memory.word(at) {
        word.store(number, std::sync::atomic::Ordering::Release);
    }
}

/// What is kept of a write id.
pub(in crate::process) fn hash(id: &str) -> [u8; ID] {
    let mut hash = [0; ID];
    Sha256::digest(id).iter().zip(&mut hash).for_each(|(from, to)| *to = *from);
    hash
}
