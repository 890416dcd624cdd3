//! Reads one log, page by page, while it is written or afterwards.

use std::fs::File;

use crate::directory::{Directory, How};
use crate::error::{LogError, LogId};
use crate::position::Position;
use crate::record::{Head, Kind, Record};
use crate::scan::{Found, Scanner};
use crate::start::{End, Start};

/// Records of one page. Chosen for speed.
const MOST_RECORDS: usize = 16 << 10;
/// So often a page is begun anew because its segment was removed meanwhile. A safeguard, far from any real use.
const MOST_ATTEMPTS: usize = 16;

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the record of this number; 0 and 1 are the first.
    Seq(u64),
    /// With the output at this offset, counted over all streams; a record that begins before it is cut.
    Offset(u64),
}

/// Why something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCause {
    /// Removed to make room, oldest first.
    Dropped,
    /// It was not kept: the disk was full, or failed.
    NotKept,
    /// It can't be read any more.
    Damaged,
}

/// Something that was in the log, or should have been, and can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub cause: LossCause,
    /// Before which record: its index among those of the page.
    pub before: usize,
    /// Records; 0 if that is not known.
    pub records: u64,
    /// Bytes of output. What was dropped before a number that is not the first may be counted too high.
    pub bytes: u64,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What was read, in order. Content that was cut at an offset has the offset in its head.
    pub records: Vec<Record>,
    /// What is missing among them.
    pub lost: Vec<Loss>,
    /// Where the next page begins.
    pub next: Position,
    /// Nothing more is there now.
    pub at_end: bool,
    /// How the log ended, once it has. A log that is at its end, and has ended, gets no more.
    pub end: Option<End>,
}

/// One log, to be read.
#[derive(Debug)]
pub struct LogReader {
    directory: Directory,
    start: Start,
}

/// A page while it is read.
struct Reading {
    from: From,
    most: u64,
    /// Behind what was seen so far, of any kind.
    seen: Position,
    gap: bool,
    output: u64,
    page: Page,
}

impl LogReader {
    pub(crate) fn new(id: LogId, directory: Directory) -> Result<Self, LogError> {
        let start = directory.start()?.ok_or(LogError::NoStart(id))?;
        Ok(Self { directory, start })
    }

    /// Whose log it is.
    #[must_use]
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// How it ended; nothing while it is written, or as long as nobody has found that its writer is dead.
    ///
    /// # Errors
    /// Of the system.
    pub fn end(&self) -> Result<Option<End>, LogError> {
        self.directory.end()
    }

    /// Reads from a place on: at least one record if there is any, then as many as have `most` bytes of output together.
    ///
    /// # Errors
    /// Of the system.
    pub fn page(&self, from: From, most: u64) -> Result<Page, LogError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_page(from, most) {
                // The oldest segment was removed after the names were read.
                Err(error) if error.is_missing() && attempts < MOST_ATTEMPTS => {}
                other => return other,
            }
        }
    }

    fn try_page(&self, from: From, most: u64) -> Result<Page, LogError> {
        // First, so that what is read afterwards is all that there will be.
        let end = self.directory.end()?;
        let segments = self.directory.segments()?;
        let begins_before = |begins: &Position| match from {
            From::Seq(seq) => begins.seq <= seq,
            From::Offset(offset) => begins.offset <= offset,
        };
        let first = segments.partition_point(begins_before).saturating_sub(1);
        let mut reading = Reading::new(from, most, segments.get(first).copied(), end);
        for begins in segments.iter().skip(first) {
            reading.jump(*begins, LossCause::Damaged);
            let file = self.directory.file(&begins.segment(), How::Read)?;
            let scanned = reading.segment(Scanner::new(file, self.start.salt));
            if !scanned.map_err(|source| self.directory.io("read", &begins.segment(), source))? {
                return Ok(reading.page);
            }
        }
        Ok(reading.ended())
    }
}

impl Reading {
    fn new(from: From, most: u64, first: Option<Position>, end: Option<End>) -> Self {
        let first = first.unwrap_or(Position::START);
        let mut page = Page { records: Vec::new(), lost: Vec::new(), next: first, at_end: false, end };
        let (records, bytes) = match from {
            From::Seq(seq) => (first.seq.saturating_sub(seq.max(1)), first.offset),
            From::Offset(offset) => (0, first.offset.saturating_sub(offset)),
        };
        let is_before = match from {
            From::Seq(_) => records > 0,
            From::Offset(_) => bytes > 0,
        };
        if is_before {
            page.lost.push(Loss { cause: LossCause::Dropped, before: 0, records, bytes });
        }
        Self { from, most, seen: first, gap: false, output: 0, page }
    }

    /// Whether what ends at `end` lies before the page.
    fn is_before(&self, end: Position) -> bool {
        match self.from {
            From::Seq(seq) => end.seq <= seq,
            From::Offset(offset) => end.offset <= offset,
        }
    }

    /// The next record is at `to`: what lies between was not found.
    fn jump(&mut self, to: Position, cause: LossCause) {
        if to.seq > self.seen.seq && !self.is_before(to) {
            let cause = if self.gap { LossCause::NotKept } else { cause };
            self.lose(cause, to);
        }
        self.seen = self.seen.max(to);
        self.page.next = self.page.next.max(self.seen);
    }

    fn lose(&mut self, cause: LossCause, to: Position) {
        let (mut records, mut bytes) = (to.seq - self.seen.seq, to.offset.saturating_sub(self.seen.offset));
        // Only what was asked for.
        match self.from {
            From::Seq(seq) => records = records.min(to.seq - seq.min(to.seq)),
            From::Offset(offset) => bytes = bytes.min(to.offset.saturating_sub(offset)),
        }
        self.page.lost.push(Loss { cause, before: self.page.records.len(), records, bytes });
    }

    /// Reads a segment's records. False once the page is full.
    fn segment(&mut self, mut scanner: Scanner<File>) -> std::io::Result<bool> {
        loop {
            match scanner.next()? {
                Found::Damaged(_) => {}
                Found::End(_) => return Ok(true),
                Found::Record(head) if head.kind == Kind::Gap => {
                    self.gap = true;
                    if !self.is_before(Position { seq: head.seq + 1, offset: head.offset + 1 })
                        && let Some(content) = scanner.content(&head)?
                    {
                        self.page.records.push(Record { head, content });
                    }
                }
                Found::Record(head) => {
                    if !self.record(head, &scanner)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn record(&mut self, head: Head, scanner: &Scanner<File>) -> std::io::Result<bool> {
        let begins = Position { seq: head.seq, offset: head.offset };
        let ends = Position { seq: head.seq + 1, offset: head.offset + head.output() };
        if self.is_before(ends) {
            self.jump(ends, LossCause::Damaged);
            return Ok(true);
        }
        let full =
            self.output.saturating_add(head.output()) > self.most || self.page.records.len() >= MOST_RECORDS;
        if full && !self.page.records.is_empty() {
            return Ok(false);
        }
        self.jump(begins, LossCause::Damaged);
        match scanner.content(&head)? {
            Some(content) => {
                self.output += head.output();
                self.page.records.push(cut(Record { head, content }, self.from));
                self.seen = ends;
                self.page.next = ends;
            }
            None => self.jump(ends, LossCause::Damaged),
        }
        Ok(true)
    }

    /// All segments were read.
    fn ended(mut self) -> Page {
        if let Some(end) = &self.page.end {
            let position = end.position;
            self.jump(position, LossCause::Damaged);
        }
        self.page.at_end = true;
        self.page
    }
}

/// Takes off what lies before the offset that is asked for.
fn cut(mut record: Record, from: From) -> Record {
    let From::Offset(offset) = from else { return record };
    let before = offset.saturating_sub(record.head.offset).min(record.head.output());
    if before > 0 {
        record.content.drain(..usize::try_from(before).unwrap_or(usize::MAX).min(record.content.len()));
        record.head.offset += before;
        record.head.length = u32::try_from(record.content.len()).unwrap_or(u32::MAX);
    }
    record
}
