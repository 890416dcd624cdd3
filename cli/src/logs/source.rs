//! Where a log comes from: what the server retains in memory. A log on the server's disk will stand here as well, with the
//! same pieces and offsets.

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{Read, ReadParams, ReadResult, Stream, StreamTotals};

use crate::programs::Place;

/// How long one request waits for news; then another is sent. Our own pace: nothing outside depends on it.
const TURN_MS: u64 = 60_000;

/// Some output of one stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stream: Stream,
    pub(super) bytes: Vec<u8>,
}

/// All that is kept, and where it stands in all that there was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Of its first byte, counted from the start of the program, over the streams that are looked at.
    pub(super) offset: u64,
    /// Behind its last byte.
    pub(super) end: u64,
    pub(super) pieces: Vec<Piece>,
}

impl Kept {
    /// Leaves out what stands before this offset.
    pub(super) fn skip_to(&mut self, offset: u64) {
        let mut skip = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        for piece in &mut self.pieces {
            let here = skip.min(piece.bytes.len());
            piece.bytes.drain(..here);
            skip -= here;
        }
        self.pieces.retain(|piece| !piece.bytes.is_empty());
    }

    /// Leaves out all but the last lines; a last line without its end counts as one.
    pub(super) fn keep_last_lines(&mut self, lines: usize) {
        let total: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        let mut left = lines;
        let mut from = if lines == 0 { total } else { 0 };
        let newest_first = self.pieces.iter().rev().flat_map(|piece| piece.bytes.iter().rev());
        for (behind, byte) in newest_first.enumerate() {
            // The end of the last line ends no other.
            if *byte == b'\n' && behind > 0 {
                left = left.saturating_sub(1);
                if left == 0 {
                    from = from.max(total - behind);
                    break;
                }
            }
        }
        self.skip_to(self.offset + from as u64);
    }
}

/// What came since.
pub(super) struct More {
    /// Bytes that are gone because they came faster than they were read.
    pub(super) lost: u64,
    pub(super) pieces: Vec<Piece>,
}

/// What the server retains of a program's output.
pub(super) struct Retained<'a> {
    client: &'a Client,
    place: Place,
    /// The one that is looked at; none for all.
    stream: Option<Stream>,
    after: Seq,
    over: bool,
}

impl<'a> Retained<'a> {
    pub(super) fn new(client: &'a Client, place: Place, stream: Option<Stream>) -> Self {
        Self { client, place, stream, after: Seq::NONE, over: false }
    }

    /// All that is kept now.
    pub(super) async fn all(&mut self) -> Result<Kept, ClientError> {
        let read = self.read(0).await?;
        let end = self.total(&read.totals);
        let pieces = self.pieces(read);
        let kept: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        Ok(Kept { offset: end - (kept as u64).min(end), end, pieces })
    }

    /// Waits for more; nothing comes once [`Self::is_over`].
    pub(super) async fn more(&mut self) -> Result<More, ClientError> {
        let read = self.read(TURN_MS).await?;
        Ok(More { lost: read.lost_bytes, pieces: self.pieces(read) })
    }

    /// Whether the program has ended and all of its output was handed out.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    async fn read(&mut self, wait_ms: u64) -> Result<ReadResult, ClientError> {
        let params = ReadParams {
            process_id: self.place.process.clone(),
            session_id: Some(self.place.session.clone()),
            attachment_id: None,
            after_seq: Some(self.after),
            max_bytes: None,
            from_offset: None,
            log_id: None,
            wait_ms: Some(wait_ms),
        };
        let read = self.client.call::<Read>(&params).await?;
        self.after = read.next_seq.previous().max(self.after);
        self.over = read.closed;
        Ok(read)
    }

    fn total(&self, totals: &StreamTotals) -> u64 {
        match self.stream {
            Some(Stream::Stdout) => totals.stdout,
            Some(Stream::Stderr) => totals.stderr,
            Some(Stream::Pty) => totals.pty,
            None => totals.stdout + totals.stderr + totals.pty,
        }
    }

    fn pieces(&self, read: ReadResult) -> Vec<Piece> {
        let wanted = |stream: Stream| self.stream.is_none_or(|only| only == stream);
        let chunks = read.chunks.into_iter().filter(|chunk| wanted(chunk.stream));
        chunks.map(|chunk| Piece { stream: chunk.stream, bytes: chunk.chunk.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&str]) -> Kept {
        let of = |text: &&str| Piece { stream: Stream::Stdout, bytes: text.as_bytes().to_vec() };
        let end = 100 + pieces.iter().map(|text| text.len() as u64).sum::<u64>();
        Kept { offset: 100, end, pieces: pieces.iter().map(of).collect() }
    }

    fn text(kept: &Kept) -> String {
        kept.pieces.iter().map(|piece| String::from_utf8_lossy(&piece.bytes)).collect()
    }

    #[test]
    fn the_last_lines_are_counted_over_all_pieces() {
        for (pieces, lines, left) in [
            (&["one\ntwo\n", "thr", "ee\n"][..], 1, "three\n"),
            (&["one\ntwo\n", "thr", "ee\n"], 2, "two\nthree\n"),
            (&["one\ntwo\n"], 5, "one\ntwo\n"),
            (&["one\ntwo"], 1, "two"),
            (&["one\n", "\n"], 1, "\n"),
            (&["one\ntwo\n"], 0, ""),
            (&[], 3, ""),
        ] {
            let mut kept = kept(pieces);
            kept.keep_last_lines(lines);
            assert_eq!(text(&kept), left, "{pieces:?} {lines}");
        }
    }

    #[test]
    fn an_offset_counts_from_the_start_of_the_program() {
        for (offset, left) in
            [(0, "abcdef"), (100, "abcdef"), (102, "cdef"), (104, "ef"), (106, ""), (999, "")]
        {
            let mut kept = kept(&["abc", "def"]);
            kept.skip_to(offset);
            assert_eq!(text(&kept), left, "{offset}");
        }
    }
}
