//! Writes one log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::directory::{Directory, How};
use crate::error::{LogError, LogId};
use crate::index::{Entry, Index};
use crate::position::Position;
use crate::record::{Head, Kind};
use crate::start::{END, End, Outcome};
use crate::store::Places;

/// Records that are written with one call: twice as many slices have to fit (`IOV_MAX` is 1024). Fixed by the kernel.
const MOST_AT_ONCE: usize = 512;

/// Something to be written.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// What it is.
    pub kind: Kind,
    /// When it came, in milliseconds since 1970.
    pub time: u64,
    /// The output, or what there is to say.
    pub content: &'a [u8],
}

/// The one writer of a log. Dropped before [`Self::finish`], it leaves a log that a later server ends.
#[derive(Debug)]
pub struct LogWriter {
    id: LogId,
    salt: u32,
    started: u64,
    places: Arc<Places>,
    directory: Directory,
    segment: Option<Segment>,
    /// Earlier segments and their bytes, oldest first.
    earlier: VecDeque<(Position, u64)>,
    /// Bytes of those.
    earlier_bytes: u64,
    position: Position,
    exit: Option<Vec<u8>>,
    /// Why nothing more is kept.
    gap: Option<String>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Segment {
    file: File,
    begins: Position,
    /// Bytes of whole records.
    length: u64,
}

impl LogWriter {
    pub(crate) fn new(id: LogId, salt: u32, started: u64, places: Arc<Places>, directory: Directory) -> Self {
        Self {
            id,
            salt,
            started,
            places,
            directory,
            segment: None,
            earlier: VecDeque::new(),
            earlier_bytes: 0,
            position: Position::START,
            exit: None,
            gap: None,
        }
    }

    /// The log's id.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Where the next record will be.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Bytes of all its segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.earlier_bytes + self.segment.as_ref().map_or(0, |segment| segment.length)
    }

    /// Appends records, numbered in order. What is said at an exit is kept for the end record too, and synced.
    ///
    /// # Errors
    /// Of the system. The records that were written whole count; [`Self::position`] tells which those are.
    pub fn append(&mut self, pieces: &[Piece<'_>]) -> Result<(), LogError> {
        for some in pieces.chunks(MOST_AT_ONCE) {
            self.append_some(some)?;
        }
        let exit = pieces.iter().rfind(|piece| piece.kind == Kind::Exited);
        if let Some(exit) = exit {
            self.exit = Some(exit.content.to_vec());
            if let Some(segment) = &self.segment {
                // Some file systems can't; the page cache has it.
                let _ = segment.file.sync_data();
            }
        }
        Ok(())
    }

    fn append_some(&mut self, pieces: &[Piece<'_>]) -> Result<(), LogError> {
        if self.segment.as_ref().is_some_and(|segment| segment.length >= self.places.bounds.segment_bytes) {
            self.rotate();
        }
        let mut next = self.position;
        let mut heads = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let head = Head::new(piece.kind, next.seq, next.offset, piece.time, self.salt, piece.content);
            next = Position { seq: next.seq + 1, offset: next.offset + head.output() };
            heads.push((head, head.encode(self.salt)));
        }
        let mut slices: Vec<IoSlice<'_>> = heads
            .iter()
            .zip(pieces)
            .flat_map(|((_, head), piece)| [IoSlice::new(head), IoSlice::new(piece.content)])
            .collect();
        if self.segment.is_none() {
            let name = self.position.segment();
            let file = self.directory.file(&name, How::New)?;
            self.segment = Some(Segment { file, begins: self.position, length: 0 });
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let written = write_all_at(&segment.file, &mut slices, segment.length);
        let Err((count, source)) = written else {
            segment.length += heads.iter().map(|(head, _)| head.size()).sum::<u64>();
            self.position = next;
            return Ok(());
        };
        // Whole records stay, the rest goes: the next one begins where a reader looks for it.
        let mut whole = 0;
        for (head, _) in &heads {
            if whole + head.size() > count {
                break;
            }
            whole += head.size();
            self.position.seq += 1;
            self.position.offset += head.output();
        }
        segment.length += whole;
        let _ = rustix::fs::ftruncate(&segment.file, segment.length);
        Err(self.directory.io("write", &segment.begins.segment(), source))
    }

    /// Ends the segment, and removes the oldest ones that are too much for the log.
    fn rotate(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        self.earlier.push_back((segment.begins, segment.length));
        self.earlier_bytes += segment.length;
        let bounds = self.places.bounds;
        // One more segment is about to be filled.
        while self.earlier_bytes + bounds.segment_bytes > bounds.log_bytes && self.drop_oldest() > 0 {}
    }

    /// Removes the oldest segment, if it is not the one that is written to. The bytes that are free by that.
    pub fn drop_oldest(&mut self) -> u64 {
        let Some((begins, length)) = self.earlier.pop_front() else { return 0 };
        self.earlier_bytes -= length;
        // What can't be removed is found and removed with the log.
        let _ = self.directory.remove_file(&begins.segment());
        length
    }

    /// Keeps no more output, and says so in one record if there is room for it: on a full disk the oldest segment makes some.
    pub fn give_up(&mut self, why: &str, time: u64) {
        if self.gap.is_some() {
            return;
        }
        let gap = Piece { kind: Kind::Gap, time, content: why.as_bytes() };
        let position = self.position;
        while self.append_some(&[gap]).is_err() && self.drop_oldest() > 0 {}
        // It is no event of the program, and has no number of its own.
        self.position = position;
        self.gap = Some(why.to_owned());
    }

    /// Whether nothing more is kept.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.gap.is_some()
    }

    /// Ends the log: `position` is behind the program's last event, kept or not; `exit` what there is to say of its end.
    /// It counts before what the log holds of that, which was said before all output was seen.
    ///
    /// # Errors
    /// Of the system. A later server ends the log then.
    pub fn finish(mut self, position: Position, exit: Option<Vec<u8>>, time: u64) -> Result<LogId, LogError> {
        let end = End {
            outcome: Outcome::Closed,
            time,
            position,
            exit: exit.filter(|said| !said.is_empty()).or(self.exit.take()),
        };
        finish(&self.places, &self.directory, self.id, self.started, &end, self.size())?;
        Ok(self.id)
    }

    /// Removes the log: its program was not started.
    pub fn discard(self) {
        let _ = self.places.open.remove_directory(&self.id.to_string());
    }
}

/// Writes the end record, moves the log to those that ended, and enters it in the index.
pub(crate) fn finish(
    places: &Places,
    directory: &Directory,
    id: LogId,
    started: u64,
    end: &End,
    disk_bytes: u64,
) -> Result<(), LogError> {
    let mut written = directory.write(END, &end.encode(), true);
    if written.as_ref().is_err_and(LogError::is_full) {
        // The end is worth more than the oldest output.
        if let [oldest, _, ..] = directory.segments()?[..] {
            directory.remove_file(&oldest.segment())?;
            written = directory.write(END, &end.encode(), true);
        }
    }
    written?;
    directory.sync();
    let name = id.to_string();
    places.open.rename(&name, &places.ended, &name)?;
    let _lock = places.lock()?;
    Index::open(&places.root)?.append(&Entry {
        id,
        started,
        ended: end.time,
        outcome: end.outcome,
        position: end.position,
        disk_bytes,
    })
}

/// Writes all slices from `at` on. With an error: how many bytes were written before.
fn write_all_at(file: &File, slices: &mut [IoSlice<'_>], at: u64) -> Result<(), (u64, io::Error)> {
    let mut slices = slices;
    let mut written = 0_u64;
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match rustix::io::pwritev(file.as_fd(), slices, at + written) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err((written, errno.into())),
        }
    }
    Ok(())
}
