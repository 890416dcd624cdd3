//! Where a program's output comes from: the process, as long as its server knows it, or its log on disk, which outlives the
//! process, its session and the server. Both are read page by page, by offsets in all that the program printed.

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{Chunk, Read, ReadParams, Stream, StreamTotals};

use crate::programs::Place;

/// How long one request waits for news; then another is sent. Our own pace: nothing outside depends on it.
const TURN_MS: u64 = 60_000;

/// Some output of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
    /// When it was written down, in milliseconds since 1970; only of a log on disk.
    pub(crate) time: Option<u64>,
}

/// What one request brought.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) pieces: Vec<Piece>,
    /// Bytes before them that are gone.
    pub(crate) lost: u64,
    /// Nothing more is there now.
    pub(crate) at_end: bool,
    /// Nothing more will ever come.
    pub(crate) over: bool,
    /// Why nobody knows how the program ended, for people.
    pub(crate) failure: Option<String>,
}

/// What is read.
#[derive(Debug, Clone)]
pub(crate) enum From {
    /// A program that the server knows.
    Process(Place),
    /// A log on disk, by its id.
    Log(String),
}

/// Where the next page begins.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// At this byte of all streams together.
    Offset(u64),
    /// Behind the event of this number: so a wait ends with something new, and not with an end that was seen.
    After(Seq),
}

/// A program's output, read on and on.
pub(crate) struct Source<'a> {
    client: &'a Client,
    from: From,
    /// The stream that is looked at; none for all.
    only: Option<Stream>,
    next: Next,
    /// Behind the last page, over all streams; known only after a seek.
    offset: u64,
    /// Each stream's total, where the last answer told it.
    totals: StreamTotals,
}

impl<'a> Source<'a> {
    pub(crate) fn new(client: &'a Client, from: From, only: Option<Stream>) -> Self {
        Self { client, from, only, next: Next::Offset(0), offset: 0, totals: StreamTotals::default() }
    }

    /// Goes on at this byte of all streams together.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.next = Next::Offset(offset);
    }

    /// Where the page behind a seek has ended, over all streams.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The total of what is looked at, as far as the last page told it.
    pub(crate) fn total(&self) -> u64 {
        match self.only {
            Some(Stream::Stdout) => self.totals.stdout,
            Some(Stream::Stderr) => self.totals.stderr,
            Some(Stream::Pty) => self.totals.pty,
            None => self.totals.stdout + self.totals.stderr + self.totals.pty,
        }
    }

    /// What stands behind the last page; `wait` for it if nothing does.
    pub(crate) async fn page(&mut self, wait: bool) -> Result<Page, ClientError> {
        let (process_id, session_id, log_id) = match &self.from {
            From::Process(place) => (place.process.clone(), Some(place.session.clone()), None),
            From::Log(id) => (Default::default(), None, Some(id.clone())),
        };
        let params = ReadParams {
            process_id,
            session_id,
            attachment_id: None,
            after_seq: match self.next {
                Next::After(seq) => Some(seq),
                Next::Offset(_) => None,
            },
            max_bytes: None,
            from_offset: match self.next {
                Next::Offset(offset) => Some(offset),
                Next::After(_) => None,
            },
            with_times: log_id.as_ref().map(|_| true),
            log_id,
            wait_ms: wait.then_some(TURN_MS),
        };
        let read = self.client.call::<Read>(&params).await?;
        self.offset = read.next_offset.unwrap_or(self.offset);
        let seen = read.next_seq.previous();
        self.next = match self.next {
            Next::After(before) => Next::After(seen.max(before)),
            Next::Offset(_) => Next::After(seen),
        };
        self.totals = read.totals;
        let mut times = read.chunk_times_ms.unwrap_or_default().into_iter();
        let timed = read.chunks.into_iter().map(|chunk| (chunk, times.next())).collect::<Vec<_>>();
        let at_end = timed.is_empty();
        let wanted = |stream| self.only.is_none_or(|only| only == stream);
        let pieces = timed.into_iter().filter(|(chunk, _)| wanted(chunk.stream)).map(|(chunk, time)| {
            let Chunk { stream, chunk, .. } = chunk;
            Piece { stream, bytes: chunk.0, time }
        });
        Ok(Page {
            pieces: pieces.collect(),
            lost: read.lost_bytes,
            at_end,
            over: at_end && read.closed,
            failure: read.failure,
        })
    }
}
