//! The file: opened so that it can only be appended to, and rotated by size.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, lstat, open};
use rustix::io::{Errno, pread, retry_on_intr, write};

use crate::{AuditError, Bounds};

/// Nobody but the owner reads it.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An audit file.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    bounds: Bounds,
    file: OwnedFd,
    /// Bytes of the text under way that are written already; the rest of a line belongs behind them.
    done: usize,
}

impl AuditFile {
    /// Opens or makes it.
    pub(crate) fn open(path: &Path, bounds: Bounds) -> Result<Self, AuditError> {
        let io = |source: io::Error| AuditError::Io { path: path.to_owned(), source };
        let file = match open_at(path) {
            Err(Errno::LOOP) => {
                return Err(AuditError::NoFile { path: path.to_owned(), found: "a symbolic link" });
            }
            Err(Errno::ISDIR) => {
                return Err(AuditError::NoFile { path: path.to_owned(), found: "a directory" });
            }
            // A pipe that nobody reads.
            Err(Errno::NXIO) => {
                return Err(AuditError::NoFile { path: path.to_owned(), found: "a pipe or socket" });
            }
            opened => opened.map_err(|error| io(error.into()))?,
        };
        let stat = fstat(&file).map_err(|error| io(error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Fifo => {
                return Err(AuditError::NoFile { path: path.to_owned(), found: "a pipe or socket" });
            }
            _ => return Err(AuditError::NoFile { path: path.to_owned(), found: "a device" }),
        }
        prepare(&file, &stat).map_err(io)?;
        Ok(Self { path: path.to_owned(), bounds, file, done: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines. After an error the same text is to be given again, with more behind it or not: what was written
    /// of it is not written twice.
    pub(crate) fn append(&mut self, text: &[u8]) -> io::Result<()> {
        while self.done < text.len() {
            let rest = &text[self.done..];
            let at_start = self.done == 0 || text[self.done - 1] == b'\n';
            let room = match at_start {
                true => self.room_for(line(rest))?,
                false => line(rest) as u64,
            };
            let written = retry_on_intr(|| write(&self.file, &rest[..lines_within(rest, room)]))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.done += written;
        }
        self.done = 0;
        Ok(())
    }

    /// As after a write that took so many bytes of a text and then failed.
    #[cfg(test)]
    pub(crate) fn resume_at(&mut self, done: usize) {
        self.done = done;
    }

    /// How many bytes the file may still take, of which the first line needs `bytes`; a new file is begun where it has no room.
    fn room_for(&mut self, bytes: usize) -> io::Result<u64> {
        let mut stat = fstat(&self.file)?;
        // Somebody else has rotated it, or taken it away.
        let ours = lstat(&self.path).is_ok_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino));
        if !ours {
            stat = self.begin()?;
        }
        let size = size(&stat);
        if size > 0 && size + bytes as u64 > self.bounds.file_bytes {
            self.rotate()?;
            self.begin()?;
            return Ok(self.bounds.file_bytes);
        }
        Ok(self.bounds.file_bytes.saturating_sub(size))
    }

    fn begin(&mut self) -> io::Result<Stat> {
        let file = open_at(&self.path)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no plain file any more"));
        }
        prepare(&file, &stat)?;
        self.file = file;
        Ok(stat)
    }

    /// `FILE` becomes `FILE.1`, and so on; the last goes.
    fn rotate(&self) -> io::Result<()> {
        for number in (1..self.bounds.old_files).rev() {
            match std::fs::rename(self.old(number), self.old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.old(1))
    }

    fn old(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open_at(path: &Path) -> Result<OwnedFd, Errno> {
    // It is read for its last byte only. A pipe in its place must not be waited for.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
    retry_on_intr(|| open(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, MODE))
}

/// Takes the file from everybody else, and ends a line that a dead writer has left.
fn prepare(file: &OwnedFd, stat: &Stat) -> io::Result<()> {
    if Mode::from_raw_mode(stat.st_mode) != MODE {
        fchmod(file, MODE)?;
    }
    let mut last = [0];
    if size(stat) > 0 && retry_on_intr(|| pread(file, &mut last, size(stat) - 1))? == 1 && last != *b"\n" {
        retry_on_intr(|| write(file, b"\n"))?;
    }
    Ok(())
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Bytes of the first line.
fn line(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1)
}

/// Bytes of as many whole lines as have room, but of one at least.
fn lines_within(text: &[u8], room: u64) -> usize {
    let first = line(text);
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(text.len());
    text[..room].iter().rposition(|byte| *byte == b'\n').map_or(first, |end| (end + 1).max(first))
}
