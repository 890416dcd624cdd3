//! What a program has printed: read from the server as long as that knows the program, or from its log on disk; and searched.

mod plain;

use bytes::Bytes;
use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{Read, ReadParams, ReadResult};
use futures_util::{Stream, stream};
use serde::Serialize;

use crate::limits::Limits;
use crate::programs::Place;
use plain::{Needle, plain};

/// A longer line is searched in pieces of so many bytes. A safeguard, far from any real use.
const LONGEST_LINE: usize = 64 << 10;
/// So much of a found line is shown, in characters. Chosen for speed.
const SHOWN_LINE: usize = 300;

/// Where output comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A program that the server knows.
    Process(Place),
    /// A log on disk, by its id.
    Log(String),
}

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At this byte of all streams together.
    Offset(u64),
    /// Behind the event of this number.
    After(Seq),
}

impl Source {
    /// Reads what stands there; waits so many milliseconds for something if nothing does.
    ///
    /// # Errors
    /// As for any call.
    pub(crate) async fn read(
        &self,
        client: &Client,
        begin: Begin,
        max_bytes: u64,
        wait_ms: u64,
    ) -> Result<ReadResult, ClientError> {
        let (process_id, session_id, log_id) = match self {
            Self::Process(place) => (place.process.clone(), Some(place.session.clone()), None),
            Self::Log(id) => (Default::default(), None, Some(id.clone())),
        };
        let params = ReadParams {
            process_id,
            session_id,
            log_id,
            attachment_id: None,
            after_seq: match begin {
                Begin::After(seq) => Some(seq),
                Begin::Offset(_) => None,
            },
            from_offset: match begin {
                Begin::Offset(offset) => Some(offset),
                Begin::After(_) => None,
            },
            max_bytes: Some(max_bytes),
            wait_ms: (wait_ms > 0).then_some(wait_ms),
            with_times: None,
        };
        client.call::<Read>(&params).await
    }
}

/// Bytes of a read.
pub(crate) fn length(read: &ReadResult) -> u64 {
    read.chunks.iter().map(|chunk| chunk.chunk.0.len() as u64).sum()
}

/// Everything that is kept now, from the first byte on.
pub(crate) fn whole(
    client: Client,
    source: Source,
    read_bytes: u64,
) -> impl Stream<Item = Result<Bytes, ClientError>> + Send {
    let copy = Copy { client, source, at: 0, end: None };
    stream::try_unfold(copy, move |mut copy| async move {
        Ok(copy.next(read_bytes).await?.map(|bytes| (bytes, copy)))
    })
}

/// A copy of output under way.
struct Copy {
    client: Client,
    source: Source,
    at: u64,
    /// Where it ended when the copy began: a program that prints on would never be read to its end.
    end: Option<u64>,
}

impl Copy {
    async fn next(&mut self, read_bytes: u64) -> Result<Option<Bytes>, ClientError> {
        if self.end.is_some_and(|end| self.at >= end) {
            return Ok(None);
        }
        let read = self.source.read(&self.client, Begin::Offset(self.at), read_bytes, 0).await?;
        if read.chunks.is_empty() {
            return Ok(None);
        }
        self.end.get_or_insert(read.totals.sum().max(1));
        self.at = read.next_offset.unwrap_or(self.at + length(&read));
        Ok(Some(read.chunks.into_iter().flat_map(|chunk| chunk.chunk.0).collect::<Vec<u8>>().into()))
    }
}

/// What one search has found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    pub(crate) lines: Vec<Line>,
    /// Where the next search goes on; none when all was searched.
    pub(crate) next: Option<u64>,
}

/// A line that holds what was looked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// Where it begins, in bytes of all streams together.
    pub(crate) offset: u64,
    /// Without what moves a terminal's cursor, and not longer than can be shown.
    pub(crate) text: String,
}

/// Looks for a text from this byte on, without regard to ASCII's case.
///
/// # Errors
/// As for any call.
pub(crate) async fn search(
    client: &Client,
    source: &Source,
    text: &str,
    from: u64,
    limits: &Limits,
) -> Result<Found, ClientError> {
    let mut finder =
        Finder { needle: Needle::new(text), line: Vec::new(), begins: from, found: Found::default() };
    let (mut at, mut looked) = (from, 0);
    loop {
        let read = source.read(client, Begin::Offset(at), limits.read_bytes * 4, 0).await?;
        if read.chunks.is_empty() {
            finder.end_line(at);
            return Ok(finder.found);
        }
        let count = length(&read);
        let next = read.next_offset.unwrap_or(at + count);
        if at == from {
            finder.begins = next.saturating_sub(count);
        }
        let mut offset = next.saturating_sub(count);
        for chunk in &read.chunks {
            finder.take(&chunk.chunk.0, offset);
            offset += chunk.chunk.0.len() as u64;
        }
        (at, looked) = (next, looked + count);
        if looked >= limits.searched_bytes || finder.found.lines.len() >= limits.found_lines {
            // Once more from the line that has begun.
            finder.found.next = Some(if finder.begins > from { finder.begins } else { at });
            return Ok(finder.found);
        }
    }
}

/// Cuts bytes into lines, and keeps those that hold the text.
struct Finder {
    needle: Needle,
    line: Vec<u8>,
    begins: u64,
    found: Found,
}

impl Finder {
    fn take(&mut self, bytes: &[u8], offset: u64) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
            let (piece, behind) = rest.split_at(end);
            self.line.extend_from_slice(piece);
            at += piece.len() as u64;
            if piece.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                self.end_line(at);
            }
            rest = behind;
        }
    }

    /// The line ends before this byte.
    fn end_line(&mut self, end: u64) {
        let text = plain(&self.line);
        if self.needle.is_in(&text) {
            let text = text.trim_end().chars().take(SHOWN_LINE).collect();
            self.found.lines.push(Line { offset: self.begins, text });
        }
        self.line.clear();
        self.begins = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_across_the_edges_of_pieces() {
        let mut finder =
            Finder { needle: Needle::new("Err"), line: Vec::new(), begins: 10, found: Found::default() };
        for (bytes, offset) in [(&b"one\ntwo er"[..], 10), (b"ror\n\x1b[31mer", 20), (b"r\x1b[0m", 30)] {
            finder.take(bytes, offset);
        }
        finder.end_line(40);
        let found: Vec<_> = finder.found.lines.iter().map(|line| (line.offset, line.text.as_str())).collect();
        assert_eq!(found, [(14, "two error"), (24, "err")]);
    }
}
