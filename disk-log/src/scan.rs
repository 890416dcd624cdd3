//! Reads one segment: record by record, past what is damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use crate::record::{HEAD, Head, MARKER};

/// Read at once while looking at heads. Chosen for speed.
const BLOCK: usize = 64 << 10;

/// Bytes that can be read at any place.
pub trait Source {
    /// Reads what there is at `at`, as far as it fits; 0 is the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, at)
    }
}

impl Source for &[u8] {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let there = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }
}

/// What comes next in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A record, whose content can be read with [`Scanner::content`].
    Record(Head),
    /// Damage, behind which there is a record again: so many bytes were passed over.
    Damaged(u64),
    /// No whole record follows; so many bytes that are none, as a power cut leaves, or a writer that is not done yet.
    End(u64),
}

/// Goes through a segment.
#[derive(Debug)]
pub struct Scanner<S> {
    source: S,
    salt: u32,
    /// Where the next record begins.
    at: u64,
    /// The record that was found last, and where its content begins.
    content_at: u64,
    block: Vec<u8>,
    block_at: u64,
}

impl<S: Source> Scanner<S> {
    /// Begins at the first byte. `salt`: that of the log's checksums.
    pub fn new(source: S, salt: u32) -> Self {
        Self { source, salt, at: 0, content_at: 0, block: Vec::new(), block_at: 0 }
    }

    /// Where the next record begins, in bytes of the segment.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What comes next. At the end it may be asked again: there may be more by then.
    ///
    /// # Errors
    /// What the system says.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Found> {
        let salt = self.salt;
        let there = self.look(self.at, HEAD)?;
        if there.is_empty() {
            return Ok(Found::End(0));
        }
        let Some(head) = Head::decode(there, salt) else { return self.find_again() };
        let next = self.at + head.size();
        if !self.reaches(next)? {
            // A whole head is never wrong about its length: the rest is missing.
            return Ok(Found::End(self.length()? - self.at));
        }
        self.content_at = self.at + HEAD as u64;
        self.at = next;
        Ok(Found::Record(head))
    }

    /// The content of the record that was found last; nothing if it is damaged.
    ///
    /// # Errors
    /// What the system says.
    pub fn content(&self, head: &Head) -> io::Result<Option<Vec<u8>>> {
        let mut content = vec![0; head.length as usize];
        let mut filled = 0;
        while filled < content.len() {
            match self.source.read_at(&mut content[filled..], self.content_at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        content.truncate(filled);
        Ok(Some(content).filter(|content| head.fits(self.salt, content)))
    }

    /// Looks for the next whole head behind a damaged one.
    fn find_again(&mut self) -> io::Result<Found> {
        let from = self.at;
        let mut at = from + 1;
        loop {
            let salt = self.salt;
            let there = self.look(at, BLOCK)?;
            if there.len() < HEAD {
                return Ok(Found::End(at + there.len() as u64 - from));
            }
            let found = memmem::find_iter(there, &MARKER)
                .find(|place| there.get(*place..).is_some_and(|there| Head::decode(there, salt).is_some()));
            if let Some(place) = found {
                self.at = at + place as u64;
                return Ok(Found::Damaged(self.at - from));
            }
            // A head may be cut in two by the block's end.
            at += (there.len() - (HEAD - 1)) as u64;
        }
    }

    /// Bytes at a place: `wanted` of them, or fewer at the end.
    fn look(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        let held = |this: &Self| {
            let from = usize::try_from(at.checked_sub(this.block_at)?).ok()?;
            this.block.get(from..).map(<[u8]>::len)
        };
        if held(self).is_none_or(|held| held < wanted) {
            self.block.resize(BLOCK.max(wanted), 0);
            self.block_at = at;
            let mut filled = 0;
            while filled < self.block.len() {
                match self.source.read_at(&mut self.block[filled..], at + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.block.clear();
                        return Err(error);
                    }
                }
            }
            self.block.truncate(filled);
        }
        let from = usize::try_from(at - self.block_at).unwrap_or(usize::MAX);
        let there = self.block.get(from..).unwrap_or_default();
        Ok(there.get(..wanted).unwrap_or(there))
    }

    /// Whether the segment has all bytes before `end`.
    fn reaches(&self, end: u64) -> io::Result<bool> {
        if end <= self.block_at + self.block.len() as u64 {
            return Ok(true);
        }
        let mut byte = [0];
        loop {
            match self.source.read_at(&mut byte, end - 1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Ok(other? == 1),
            }
        }
    }

    /// Bytes of the segment from here on, found by reading: only at a torn end.
    fn length(&mut self) -> io::Result<u64> {
        let mut at = self.at;
        loop {
            match self.look(at, BLOCK)?.len() {
                0 => return Ok(at),
                count => at += count as u64,
            }
        }
    }
}
