//! What operators see of a server: its acts in an append-only audit file, and its figures as text.
//!
//! The audit file has one JSON line for each act, is written by a thread and rotated by size. Whoever does an act takes a [`Place`] in the queue before, and fills it with a record after. So a server that may do
//! nothing unrecorded knows beforehand whether there is room, and nobody waits for the disk. While the file can't be
//! written, records wait; what finds no room is counted, and the file says later how many there were.

pub mod figures;
mod file;
mod queue;
mod text;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use file::AuditFile;
use queue::Queue;
pub use text::{args_hash, cut, timestamp};

/// How long the end of a program waits for the last records to be written. A safeguard, far from any real use.
const LAST_WRITES_TIME: Duration = Duration::from_secs(5);

/// The bounds of an audit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file; before it would grow beyond, it is renamed and a new one begun. A longer line gets a file of its own.
    pub file_bytes: u64,
    /// Renamed files that are kept, at least 1: `FILE.1` is the newest; the oldest goes.
    pub old_files: usize,
    /// Records that wait to be written, with those of acts that are under way.
    pub waiting: usize,
}

/// What happens to an act for whose record there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutRoom {
    /// It is done, and counted: the file tells later how many acts it does not show.
    Count,
    /// It must not be done.
    Refuse,
}

/// Why there is no audit file.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refuses.
    #[error("can't open the audit file {}: {source}", path.display())]
    Io {
        /// The file that was to be opened.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The path leads to something else.
    #[error("the audit file {} is {found}, not a plain file; name a path of its own", path.display())]
    NoFile {
        /// The path that was given.
        path: PathBuf,
        /// What lies there.
        found: &'static str,
    },
    /// There is no thread to write with.
    #[error("can't start the thread that writes the audit file: {0}")]
    Thread(std::io::Error),
}

/// There is no room for a record, and without one nothing may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing is done without an audit record, and there is no room for one: the audit file can't be written, or the disk is \
     too slow; look at the server's log"
)]
pub struct NoRoom;

/// An audit file that is written to. Clones share it.
#[derive(Debug)]
pub struct Audit<R> {
    queue: Arc<Owner<R>>,
}

/// Ends the thread once nobody can put anything in any more.
#[derive(Debug)]
struct Owner<R>(Arc<Queue<R>>);

/// Room for the record of one act. Dropping it gives the room back, and leaves no trace of the act.
#[derive(Debug)]
pub struct Place<R> {
    queue: Arc<Queue<R>>,
}

impl<R> Clone for Audit<R> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue) }
    }
}

impl<R: Serialize + Send + 'static> Audit<R> {
    /// Opens or makes the file, with mode 0600, and starts the thread that writes to it. A symbolic link is not followed.
    ///
    /// # Errors
    /// When the file can't be opened or its mode not be set, when something else has the path, and without a thread.
    pub fn open(path: &Path, bounds: Bounds, without_room: WithoutRoom) -> Result<Self, AuditError> {
        let file = AuditFile::open(path, bounds)?;
        let queue = Arc::new(Queue::new(bounds.waiting, without_room));
        let same = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("audit".into());
        thread.spawn(move || writer::run(&same, file)).map_err(AuditError::Thread)?;
        Ok(Self { queue: Arc::new(Owner(queue)) })
    }

    /// Takes room for the record of an act that is about to begin; none for one that is only counted.
    ///
    /// # Errors
    /// [`NoRoom`] for an act that must not be done then.
    pub fn claim(&self) -> Result<Option<Place<R>>, NoRoom> {
        let queue = &self.queue.0;
        Ok(queue.claim()?.then(|| Place { queue: Arc::clone(queue) }))
    }

    /// Records something that can't be refused any more, if there is room; it is counted otherwise.
    pub fn note(&self, record: R) {
        if self.queue.0.claim_or_count() {
            self.queue.0.put(record);
        }
    }

    /// Waits, for a bounded time, until all records are written. Blocks.
    pub fn flush(&self) {
        let left = self.queue.0.flush(LAST_WRITES_TIME);
        if left > 0 {
            tracing::warn!(records = left, "the last audit records are lost: the file can't be written");
        }
    }
}

impl<R> Drop for Owner<R> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<R> Place<R> {
    /// Records what was done.
    pub fn fill(self, record: R) {
        let queue = Arc::clone(&self.queue);
        std::mem::forget(self);
        queue.put(record);
    }
}

impl<R> Drop for Place<R> {
    fn drop(&mut self) {
        self.queue.give_back();
    }
}

#[cfg(test)]
mod tests;
