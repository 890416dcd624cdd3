//! The logs that ended, in the order of their ends: a file of entries of one size, so that a page is one read.
//!
//! Whoever changes it holds the store's lock. Entries go at the beginning, so the number of an entry, counted from the first
//! that there ever was, stays the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::directory::{Directory, How};
use crate::error::{LogError, LogId};
use crate::position::Position;
use crate::record::checksum;
use crate::start::Outcome;

/// Its name.
const NAME: &str = "index";
/// Begins the file. The digit is the version.
const MAGIC: [u8; 8] = *b"CXINDEX1";
const HEADER: usize = 32;
/// Bytes of an entry, with room for more.
const ENTRY: usize = 96;
/// So many entries that are gone are worth writing the file anew. Chosen for speed.
const MANY: u64 = 4096;

/// A log that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub id: LogId,
    /// When it began, in milliseconds since 1970.
    pub started: u64,
    /// When it ended, likewise.
    pub ended: u64,
    /// What became of the program.
    pub outcome: Outcome,
    /// Behind the last of what was numbered.
    pub position: Position,
    /// Bytes that it takes on the disk.
    pub disk_bytes: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

/// Closes `bytes` with their checksum.
fn sealed<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    for (place, byte) in bytes[..N - 4].iter_mut().zip(parts.iter().copied().flatten()) {
        *place = *byte;
    }
    let sum = checksum(0, &bytes[..N - 4]).to_le_bytes();
    bytes[N - 4..].copy_from_slice(&sum);
    bytes
}

fn is_sealed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk().is_some_and(|(content, sum)| checksum(0, content).to_le_bytes() == *sum)
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY] {
        sealed(&[
            &self.id.bytes(),
            &self.started.to_le_bytes(),
            &self.ended.to_le_bytes(),
            &self.position.seq.to_le_bytes(),
            &self.position.offset.to_le_bytes(),
            &self.disk_bytes.to_le_bytes(),
            &[self.outcome.number()],
        ])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        is_sealed(bytes).then_some(())?;
        Some(Self {
            id: LogId::from_bytes(number(bytes, 0)?),
            started: long(bytes, 16)?,
            ended: long(bytes, 24)?,
            position: Position { seq: long(bytes, 32)?, offset: long(bytes, 40)? },
            disk_bytes: long(bytes, 48)?,
            outcome: Outcome::of(*bytes.get(56)?)?,
        })
    }
}

/// The open index.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    root: &'a Directory,
    file: File,
    /// The number of the first entry in the file.
    base: u64,
    /// The number of the first entry that is not gone.
    head: u64,
    /// The number that the next entry will have.
    tail: u64,
}

impl<'a> Index<'a> {
    /// Opens it, and makes it if there is none. One whose beginning is damaged is as good as none: what ended is entered
    /// again when the store is recovered.
    pub(crate) fn open(root: &'a Directory) -> Result<Self, LogError> {
        let file = root.file(NAME, How::Change)?;
        let fail = |source| root.io("read", NAME, source);
        let length = file.metadata().map_err(fail)?.len();
        if let Some((base, head)) = read_header(root, &file)? {
            return Ok(Self::over(root, file, base, head, length));
        }
        file.set_len(0).map_err(fail)?;
        write_header(&file, 0, 0).map_err(fail)?;
        Ok(Self::over(root, file, 0, 0, 0))
    }

    /// Opens it if there is one, and changes nothing.
    pub(crate) fn open_to_read(root: &'a Directory) -> Result<Option<Self>, LogError> {
        let file = match root.file(NAME, How::Read) {
            Err(error) if error.is_missing() => return Ok(None),
            other => other?,
        };
        let fail = |source| root.io("read", NAME, source);
        let length = file.metadata().map_err(fail)?.len();
        let Some((base, head)) = read_header(root, &file)? else { return Ok(None) };
        Ok(Some(Self::over(root, file, base, head, length)))
    }

    fn over(root: &'a Directory, file: File, base: u64, head: u64, length: u64) -> Self {
        let tail = base + length.saturating_sub(HEADER as u64) / ENTRY as u64;
        Self { root, file, base, head: head.min(tail), tail }
    }

    fn place(&self, number: u64) -> u64 {
        HEADER as u64 + (number - self.base) * ENTRY as u64
    }

    /// Enters a log at the end.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<(), LogError> {
        let place = self.place(self.tail);
        let written = self.file.write_all_at(&entry.encode(), place);
        written.map_err(|source| self.root.io("write", NAME, source))?;
        self.tail += 1;
        Ok(())
    }

    /// The numbers of the first entry and of the one behind the last.
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.head, self.tail)
    }

    /// The entries with these numbers, as far as they are there and undamaged.
    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Vec<(u64, Entry)>, LogError> {
        let (from, to) = (from.max(self.head), to.min(self.tail));
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        let mut bytes = vec![0; count * ENTRY];
        if count > 0 {
            let read = self.file.read_exact_at(&mut bytes, self.place(from));
            read.map_err(|source| self.root.io("read", NAME, source))?;
        }
        let entries = (from..).zip(bytes.chunks_exact(ENTRY));
        Ok(entries.filter_map(|(number, bytes)| Some((number, Entry::decode(bytes)?))).collect())
    }

    /// Forgets all entries before `head`. If they are many, the file is written anew.
    pub(crate) fn forget_before(&mut self, head: u64) -> Result<(), LogError> {
        self.head = head.clamp(self.head, self.tail);
        let fail = |source| self.root.io("write", NAME, source);
        let (gone, kept) = (self.head - self.base, self.tail - self.head);
        if gone < MANY || gone < kept {
            return write_header(&self.file, self.base, self.head).map_err(fail);
        }
        let count = usize::try_from(kept).unwrap_or(0);
        let mut bytes = vec![0; HEADER + count * ENTRY];
        self.file.read_exact_at(&mut bytes[HEADER..], self.place(self.head)).map_err(fail)?;
        bytes[..HEADER].copy_from_slice(&header(self.head, self.head));
        self.root.write(NAME, &bytes, false)?;
        self.file = self.root.file(NAME, How::Change)?;
        self.base = self.head;
        Ok(())
    }
}

/// The numbers of the first entry in the file and of the first that counts; nothing if the header is damaged or missing.
fn read_header(root: &Directory, file: &File) -> Result<Option<(u64, u64)>, LogError> {
    let mut header = [0; HEADER];
    if file.read_exact_at(&mut header, 0).is_err() || !is_sealed(&header) {
        return Ok(None);
    }
    if header.starts_with(&MAGIC[..7]) && !header.starts_with(&MAGIC) {
        return Err(LogError::Newer(root.path(NAME)));
    }
    let numbers = long(&header, 8).zip(long(&header, 16));
    Ok(numbers.filter(|(base, head)| header.starts_with(&MAGIC) && base <= head))
}

fn header(base: u64, head: u64) -> [u8; HEADER] {
    sealed(&[&MAGIC, &base.to_le_bytes(), &head.to_le_bytes()])
}

fn write_header(file: &File, base: u64, head: u64) -> io::Result<()> {
    file.write_all_at(&header(base, head), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            id: LogId::from_bytes(u128::from(number).to_le_bytes()),
            started: number,
            ended: number + 1,
            outcome: Outcome::Closed,
            position: Position { seq: number + 2, offset: number + 3 },
            disk_bytes: number + 4,
        }
    }

    #[test]
    fn numbers_stay_while_the_beginning_goes() {
        let place = tempfile::tempdir().expect("a directory");
        let root = Directory::make(&place.path().join("state")).expect("a directory");
        let mut gone = 0;
        for round in 0..4 {
            let mut index = Index::open(&root).expect("an index");
            assert_eq!(index.range(), (gone, round * 5000));
            for number in round * 5000..(round + 1) * 5000 {
                index.append(&entry(number)).expect("an entry");
            }
            gone = round * 5000 + 4500;
            index.forget_before(gone).expect("a shorter index");
            let last = index.range().1;
            let read = index.read(0, u64::MAX).expect("entries");
            let expected: Vec<_> = (gone..last).map(|number| (number, entry(number))).collect();
            assert_eq!(read, expected);
        }
        assert!(root.size(NAME) < 10_000 * ENTRY as u64, "the file was never written anew");
    }

    #[test]
    fn damage_costs_the_entry_and_a_torn_end_costs_nothing() {
        let place = tempfile::tempdir().expect("a directory");
        let root = Directory::make(&place.path().join("state")).expect("a directory");
        let mut index = Index::open(&root).expect("an index");
        for number in 0..3 {
            index.append(&entry(number)).expect("an entry");
        }
        let file = root.file(NAME, How::Change).expect("the file");
        file.write_all_at(b"?", index.place(1) + 7).expect("damage");
        file.write_all_at(b"torn", index.place(3)).expect("a torn entry");
        let mut index = Index::open(&root).expect("an index");
        assert_eq!(index.range(), (0, 3));
        index.append(&entry(3)).expect("an entry");
        let numbers: Vec<_> =
            index.read(0, 9).expect("entries").into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [0, 2, 3]);
        // A damaged header: as if there were none.
        file.write_all_at(b"?", 9).expect("damage");
        assert_eq!(Index::open(&root).expect("an index").range(), (0, 0));
    }
}
