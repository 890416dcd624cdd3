//! Lines of output: the last of them, and the time before each.

use std::collections::VecDeque;

use codex_exec_server::protocol::process::Stream;
use jiff::Timestamp;

use super::source::Piece;

/// Leaves out all but the last lines of what passes through; a line without its end counts as one at the end.
#[derive(Debug)]
pub(super) struct Last {
    lines: usize,
    pieces: VecDeque<Piece>,
    /// Line ends in the pieces.
    ends: usize,
}

impl Last {
    pub(super) fn new(lines: usize) -> Self {
        Self { lines, pieces: VecDeque::new(), ends: 0 }
    }

    /// Takes more, and forgets what can't be among the last lines any more.
    pub(super) fn take(&mut self, piece: Piece) {
        if self.lines == 0 {
            return;
        }
        self.ends += ends(&piece.bytes);
        self.pieces.push_back(piece);
        // One more end than lines: the last may be that of the last line.
        while let Some(first) = self.pieces.front() {
            let here = ends(&first.bytes);
            if self.ends - here <= self.lines {
                break;
            }
            self.ends -= here;
            self.pieces.pop_front();
        }
    }

    /// Whether there are more lines than are wanted.
    pub(super) fn is_full(&self) -> bool {
        self.ends > self.lines || self.lines == 0
    }

    /// The last lines, in order.
    pub(super) fn finish(mut self) -> Vec<Piece> {
        let unended = self.pieces.back().is_some_and(|last| last.bytes.last() != Some(&b'\n'));
        let mut surplus = (self.ends + usize::from(unended)).saturating_sub(self.lines);
        while surplus > 0 {
            let Some(first) = self.pieces.front_mut() else { break };
            match first.bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    first.bytes.drain(..=at);
                    surplus -= 1;
                }
                None => drop(self.pieces.pop_front()),
            }
        }
        self.pieces.into_iter().filter(|piece| !piece.bytes.is_empty()).collect()
    }
}

fn ends(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Writes the time before each line, as `docker logs -t` does.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Whether stdout, stderr and a terminal are within a line.
    within: [bool; 3],
}

impl Stamps {
    /// The piece with the times of its lines in it.
    pub(super) fn stamp(&mut self, piece: Piece) -> Piece {
        let within = match piece.stream {
            Stream::Stdout => &mut self.within[0],
            Stream::Stderr => &mut self.within[1],
            Stream::Pty => &mut self.within[2],
        };
        let stamp = format!("{} ", time(piece.time.unwrap_or_default()));
        let mut bytes = Vec::with_capacity(piece.bytes.len() + stamp.len());
        for line in piece.bytes.split_inclusive(|byte| *byte == b'\n') {
            if !*within {
                bytes.extend_from_slice(stamp.as_bytes());
            }
            bytes.extend_from_slice(line);
            *within = line.last() != Some(&b'\n');
        }
        Piece { bytes, ..piece }
    }
}

/// Milliseconds since 1970 as RFC 3339 has them, always with three decimals.
fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: Stream, text: &str) -> Piece {
        Piece { stream, bytes: text.as_bytes().to_vec(), time: Some(1_760_000_000_000) }
    }

    #[test]
    fn the_last_lines_are_counted_over_all_pieces() {
        for (pieces, lines, left) in [
            (&["one\ntwo\n", "thr", "ee\n"][..], 1, "three\n"),
            (&["one\ntwo\n", "thr", "ee\n"], 2, "two\nthree\n"),
            (&["one\n", "two\n", "three\n", "four\n"], 2, "three\nfour\n"),
            (&["one\ntwo\n"], 5, "one\ntwo\n"),
            (&["one\ntwo"], 1, "two"),
            (&["one\ntwo"], 2, "one\ntwo"),
            (&["one\n", "\n"], 1, "\n"),
            (&["one\ntwo\n"], 0, ""),
            (&[], 3, ""),
        ] {
            let mut last = Last::new(lines);
            pieces.iter().for_each(|text| last.take(piece(Stream::Stdout, text)));
            let kept: String = last
                .finish()
                .iter()
                .map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned())
                .collect();
            assert_eq!(kept, left, "{pieces:?} {lines}");
        }
    }

    #[test]
    fn what_can_not_be_among_the_last_lines_is_forgotten_at_once() {
        let mut last = Last::new(3);
        for _ in 0..1000 {
            last.take(piece(Stream::Stdout, "line\n"));
        }
        assert!(last.pieces.len() <= 5, "{}", last.pieces.len());
    }

    #[test]
    fn each_line_of_each_stream_has_one_time() {
        let mut stamps = Stamps::default();
        let mut stamped =
            |stream, text: &str| String::from_utf8(stamps.stamp(piece(stream, text)).bytes).unwrap();
        let at = "2025-10-09T08:53:20.000Z ";
        assert_eq!(stamped(Stream::Stdout, "a\nb"), format!("{at}a\n{at}b"));
        assert_eq!(stamped(Stream::Stderr, "err\n"), format!("{at}err\n"));
        assert_eq!(stamped(Stream::Stdout, "b\n\nc"), format!("b\n{at}\n{at}c"));
    }
}
