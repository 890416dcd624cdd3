//! What a program has printed, as one stream of bytes with positions: bounded, its beginning and its end kept. No I/O.

use std::collections::VecDeque;

use crate::protocol::process::Stream;

/// The longest UTF-8 character, in bytes. Fixed by the encoding.
const CHARACTER: usize = 4;

/// The output of one program, stdout and stderr as they came. A cursor is a position in it: bytes from the beginning.
#[derive(Debug)]
pub(super) struct Transcript {
    /// Bytes that are kept of the beginning.
    most_head: usize,
    /// Bytes that are kept of the end.
    most_tail: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    /// The first bytes of a character whose others have not come, for each stream: another stream's never go in between.
    begun: [Vec<u8>; 3],
}

/// A part of a transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins.
    pub(super) from: u64,
    /// Its bytes: whole characters, as far as the program printed characters.
    pub(super) bytes: Vec<u8>,
}

impl Part {
    /// Where it ends.
    pub(super) fn to(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl Transcript {
    /// An empty one; allocates nothing.
    pub(super) const fn new(most_head: usize, most_tail: usize) -> Self {
        let begun = [const { Vec::new() }; 3];
        Self { most_head, most_tail, head: Vec::new(), tail: VecDeque::new(), total: 0, begun }
    }

    /// Bytes so far, without those of characters that have only begun.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// What is not kept any more: from here to there, the same for nothing.
    pub(super) fn forgotten(&self) -> (u64, u64) {
        (self.head.len() as u64, self.total - self.tail.len() as u64)
    }

    /// Takes what came from one stream.
    pub(super) fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let mut joined = std::mem::take(&mut self.begun[place(stream)]);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let (whole, begun) = bytes.split_at(bytes.len() - begun_at_end(bytes));
        self.begun[place(stream)] = begun.to_vec();
        self.put(whole);
    }

    /// Nothing more comes: what has only begun stays so.
    pub(super) fn finish(&mut self) {
        for begun in std::mem::take(&mut self.begun) {
            self.put(&begun);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        // Once something went to the tail, the head is over.
        let room = if self.tail.is_empty() { self.most_head - self.head.len() } else { 0 };
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        let skipped = rest.len().saturating_sub(self.most_tail);
        let rest = rest.get(skipped..).unwrap_or_default();
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.most_tail);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend(rest);
    }

    /// What is kept at and after `from`, without a gap, up to `most` bytes, which never cut a character; at least one
    /// character if there is any.
    pub(super) fn page(&self, from: u64, most: usize) -> Part {
        let (gap_from, gap_to) = self.forgotten();
        let has_gap = gap_from < gap_to;
        let mut from = from.min(self.total);
        if has_gap && from >= gap_from && from < gap_to {
            from = gap_to;
        }
        let end = if has_gap && from < gap_from { gap_from } else { self.total };
        let mut bytes = self.bytes(from, end.min(from.saturating_add(most.max(CHARACTER) as u64)));
        if has_gap && from == gap_to {
            let skipped = bytes.iter().take(CHARACTER - 1).take_while(|byte| is_continuation(**byte)).count();
            bytes.drain(..skipped);
            from += skipped as u64;
        }
        // Only at the very end may a character be incomplete, and then for good.
        if from + (bytes.len() as u64) < self.total {
            bytes.truncate(bytes.len() - begun_at_end(&bytes));
        }
        Part { from, bytes }
    }

    /// The last bytes that are kept at and after `from`, up to `most`, which never cut a character.
    pub(super) fn last(&self, from: u64, most: usize) -> Part {
        let (gap_from, gap_to) = self.forgotten();
        let kept_from = if gap_from < gap_to { from.max(gap_to) } else { from };
        let mut begin = kept_from.max(self.total.saturating_sub(most as u64)).min(self.total);
        let mut bytes = self.bytes(begin, self.total);
        if begin > from {
            let skipped = bytes.iter().take(CHARACTER - 1).take_while(|byte| is_continuation(**byte)).count();
            bytes.drain(..skipped);
            begin += skipped as u64;
        }
        Part { from: begin, bytes }
    }

    /// Kept bytes between two positions.
    fn bytes(&self, from: u64, to: u64) -> Vec<u8> {
        let within = |start: u64, len: usize| {
            let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(len);
            place(from)..place(to).max(place(from))
        };
        let mut bytes = self.head.get(within(0, self.head.len())).unwrap_or_default().to_vec();
        let tail_from = self.total - self.tail.len() as u64;
        bytes.extend(self.tail.range(within(tail_from, self.tail.len())));
        bytes
    }
}

const fn place(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::Pty => 2,
    }
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// How many bytes at the end are the beginning of a character that may still be completed.
fn begun_at_end(bytes: &[u8]) -> usize {
    for (before, byte) in bytes.iter().rev().take(CHARACTER - 1).enumerate() {
        let length = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return 0,
        };
        let there = before + 1;
        return if there < length { there } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(part: &Part) -> &str {
        std::str::from_utf8(&part.bytes).unwrap()
    }

    #[test]
    fn a_character_in_two_pieces_is_whole_even_with_another_stream_in_between() {
        let mut all = Transcript::new(100, 100);
        all.append(Stream::Stdout, b"a\xE2\x82");
        all.append(Stream::Stderr, "é".as_bytes());
        assert_eq!(text(&all.page(0, 100)), "aé");
        all.append(Stream::Stdout, b"\xAC!");
        assert_eq!(text(&all.page(0, 100)), "aé€!");
        all.append(Stream::Stdout, b"\xF0\x9F");
        assert_eq!(all.total(), 7);
        all.finish();
        assert_eq!((all.total(), all.page(7, 100).bytes), (9, b"\xF0\x9F".to_vec()));
    }

    #[test]
    fn beginning_and_end_are_kept_and_the_middle_is_counted() {
        let mut all = Transcript::new(4, 6);
        for piece in ["abc", "defg", "hijklmnop", "q"] {
            all.append(Stream::Pty, piece.as_bytes());
        }
        assert_eq!((all.total(), all.forgotten()), (17, (4, 11)));
        assert_eq!(text(&all.page(0, 100)), "abcd");
        let rest = all.page(4, 100);
        assert_eq!((rest.from, text(&rest)), (11, "lmnopq"));
        assert_eq!((all.page(99, 10).from, all.page(99, 10).bytes.len()), (17, 0));
        let last = all.last(0, 3);
        assert_eq!((last.from, text(&last)), (14, "opq"));
        assert_eq!(all.last(0, 100).from, 11);
    }

    proptest! {
        #[test]
        fn pages_make_up_the_text_and_cut_no_character(
            text in ".{0,60}", cuts in prop::collection::vec(0usize..200, 0..12), most in 1usize..20,
        ) {
            let mut all = Transcript::new(10_000, 10_000);
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            for pair in places.windows(2) {
                all.append(Stream::Stdout, &bytes[pair[0]..pair[1]]);
            }
            all.finish();
            let (mut at, mut read) = (0, String::new());
            while at < all.total() {
                let part = all.page(at, most);
                prop_assert!(part.bytes.len() <= most.max(4) && !part.bytes.is_empty());
                read.push_str(std::str::from_utf8(&part.bytes).unwrap());
                at = part.to();
            }
            prop_assert_eq!(read, text);
        }

        #[test]
        fn however_little_is_kept_what_is_shown_is_characters(
            text in "[aé€😀]{0,80}", head in 0usize..16, tail in 0usize..16, from in 0u64..100, most in 0usize..20,
        ) {
            let mut all = Transcript::new(head, tail);
            all.append(Stream::Stdout, text.as_bytes());
            all.finish();
            let from = from.min(all.total());
            let from = (from..=all.total()).find(|at| text.is_char_boundary(*at as usize)).unwrap();
            let (page, last) = (all.page(from, most), all.last(from, most));
            for part in [&page, &last] {
                let valid = std::str::from_utf8(&part.bytes).is_ok();
                prop_assert!(valid || part.from + part.bytes.len() as u64 == head as u64, "{:?}", part);
                prop_assert!(part.from >= from && part.to() <= all.total());
            }
        }
    }
}
