//! All logs of a state directory, which several servers of one user may share.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use uuid::Uuid;

use crate::directory::{Directory, How};
use crate::error::{LogError, LogId};
use crate::index::{Entry, Index};
use crate::reader::LogReader;
use crate::start::{End, START, Start};
use crate::writer::LogWriter;

/// The name of the file whose lock is held while the index is changed.
const LOCK: &str = "lock";
/// Where the kernel says which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one log's segments; then its oldest ones go.
    pub log_bytes: u64,
    /// Bytes of a segment, beyond which a new one is begun.
    pub segment_bytes: u64,
    /// Bytes of all logs; then the log that ended first goes, and when none is left, the oldest segments of others.
    pub all_bytes: u64,
    /// How long a log is kept after its end.
    pub kept: Duration,
}

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) root: Directory,
    pub(crate) open: Directory,
    pub(crate) ended: Directory,
    pub(crate) owners: Directory,
    pub(crate) bounds: Bounds,
}

/// The lock of the index, held until it is dropped.
#[must_use]
pub(crate) struct Locked(#[allow(dead_code, reason = "its end is the lock's")] File);

impl Places {
    /// Waits for the lock. Never for long: it is held for a few reads and writes, and longer only while many logs expire.
    pub(crate) fn lock(&self) -> Result<Locked, LogError> {
        let file = self.root.file(LOCK, How::Change)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(LogError::io("lock", self.root.path(LOCK)))?;
        Ok(Locked(file))
    }
}

/// A log that ended, with what was said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number among all that ended.
    pub number: u64,
    /// What the index knows.
    pub entry: Entry,
    /// What the writer said about the program at its start.
    pub about: Vec<u8>,
    /// What the writer said at its exit; nothing if that was not seen.
    pub exit: Option<Vec<u8>>,
}

/// The logs of a state directory. As long as it is there, the unended logs that it made count as being written.
#[derive(Debug)]
pub struct Store {
    places: Arc<Places>,
    owner: [u8; 16],
    boot: [u8; 16],
    /// Its lock says that we live.
    _alive: File,
}

impl Store {
    /// Opens the store in `path`, and makes it if there is none. What dead servers left is not looked at yet
    /// ([`Self::recover`]).
    ///
    /// # Errors
    /// Of the system; when the directory is a link or belongs to somebody else.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, LogError> {
        let root = Directory::make(path)?;
        let (open, ended, owners) = (root.child("open")?, root.child("ended")?, root.child("owners")?);
        let places = Arc::new(Places { root, open, ended, owners, bounds });
        let owner = Uuid::new_v4().into_bytes();
        let locked = places.lock()?;
        let alive = places.owners.file(&owner_name(&owner), How::New)?;
        hold(&alive).map_err(LogError::io("lock", places.owners.path(&owner_name(&owner))))?;
        drop(locked);
        Ok(Self { places, owner, boot: boot(), _alive: alive })
    }

    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// The boot of the machine that this server runs in.
    #[must_use]
    pub fn boot(&self) -> [u8; 16] {
        self.boot
    }

    /// The bounds it was opened with.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.places.bounds
    }

    /// Begins a log. `about` is kept with it, and told by [`Self::list`].
    ///
    /// # Errors
    /// Of the system.
    pub fn create(&self, about: &[u8], time: u64) -> Result<LogWriter, LogError> {
        let id = LogId::random();
        let salt = u32::from_le_bytes(first(LogId::random().bytes()));
        let start = Start { owner: self.owner, boot: self.boot, time, about: about.to_vec(), salt };
        // Whoever looks for what dead servers left must not find it without its start.
        let _lock = self.places.lock()?;
        let directory = self.places.open.new_child(&id.to_string())?;
        if let Err(error) = directory.write(START, &start.encode(), false) {
            let _ = self.places.open.remove_directory(&id.to_string());
            return Err(error);
        }
        Ok(LogWriter::new(id, salt, time, Arc::clone(&self.places), directory))
    }

    /// Opens a log to be read, one that ended or one that is being written.
    ///
    /// # Errors
    /// Of the system; when there is none of this id.
    pub fn reader(&self, id: LogId) -> Result<LogReader, LogError> {
        LogReader::new(id, self.directory(id)?)
    }

    fn directory(&self, id: LogId) -> Result<Directory, LogError> {
        let name = id.to_string();
        // In this order: a log that ends meanwhile moves from the first to the second.
        for place in [&self.places.open, &self.places.ended] {
            match place.existing(&name) {
                Err(error) if error.is_missing() => {}
                other => return other,
            }
        }
        Err(LogError::Unknown(id))
    }

    /// Logs that ended, the last first: `most` of those that are older than the one with the number `before`. With them, where
    /// the next page begins, if there is one. Logs that were removed by hand are left out.
    ///
    /// # Errors
    /// Of the system.
    pub fn list(&self, before: Option<u64>, most: usize) -> Result<(Vec<Listed>, Option<u64>), LogError> {
        let index = Index::open_to_read(&self.places.root)?;
        let Some(index) = index else { return Ok((Vec::new(), None)) };
        let (first, last) = index.range();
        let to = before.unwrap_or(last).clamp(first, last);
        let from = to.saturating_sub(most.max(1) as u64).max(first);
        let mut listed = Vec::new();
        for (number, entry) in index.read(from, to)?.into_iter().rev() {
            let Ok(directory) = self.places.ended.existing(&entry.id.to_string()) else { continue };
            let about = directory.start().ok().flatten().map(|start| start.about);
            let exit = directory.end().ok().flatten().and_then(|end: End| end.exit);
            listed.push(Listed { number, entry, about: about.unwrap_or_default(), exit });
        }
        Ok((listed, Some(from).filter(|from| *from > first)))
    }

    /// Logs that have not ended, of all servers, oldest first.
    ///
    /// # Errors
    /// Of the system.
    pub fn running(&self) -> Result<Vec<(LogId, Start)>, LogError> {
        let mut running = Vec::new();
        for name in self.places.open.names()? {
            let Ok(id) = name.parse() else { continue };
            // It may have ended meanwhile.
            let start = self.places.open.existing(&name).and_then(|directory| directory.start());
            if let Ok(Some(start)) = start {
                running.push((id, start));
            }
        }
        running.sort_by_key(|(id, start)| (start.time, *id));
        Ok(running)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.places.owners.remove_file(&owner_name(&self.owner));
    }
}

/// The name of an owner's file.
pub(crate) fn owner_name(owner: &[u8; 16]) -> String {
    Uuid::from_bytes(*owner).simple().to_string()
}

/// Takes a file's lock; refused while somebody else has it.
pub(crate) fn hold(file: &File) -> Result<(), rustix::io::Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))
}

fn first(bytes: [u8; 16]) -> [u8; 4] {
    let [a, b, c, d, ..] = bytes;
    [a, b, c, d]
}

/// Where the kernel doesn't say, all boots are one.
fn boot() -> [u8; 16] {
    let text = std::fs::read_to_string(BOOT).unwrap_or_default();
    Uuid::try_parse(text.trim()).map(Uuid::into_bytes).unwrap_or_default()
}
