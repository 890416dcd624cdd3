//! Logs of programs' output on disk, as this server keeps them: the store, which is opened when it is first needed, and the
//! thread that writes to it.
//!
//! Nobody who reads a program's output waits for a disk. Output is in the program's log in memory until the thread has
//! written it: a log that is kept is followed by the thread as by a slow client, and a full one makes the program wait.

mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use codex_disk_log::{Bounds, Kind, LogError, LogId, LogReader, LogWriter, Position, Store};
use codex_exec_protocol::Seq;
use parking_lot::{Condvar, Mutex};

use crate::limits::LogLimits;

/// How long the end of the server waits for what is still to be written. A safeguard, far from any real use.
const LAST_WRITES_TIME: Duration = Duration::from_secs(10);

/// Where this server keeps logs on disk, if it does. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Logs(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    bounds: Bounds,
    open: Mutex<Option<Arc<OpenLogs>>>,
}

/// The opened store, with what is to be written to it.
pub(crate) struct OpenLogs {
    store: Store,
    queue: Mutex<Queue>,
    /// Something was put in the queue, or the server ends.
    more: Condvar,
    /// The queue is empty, and nothing is being written.
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The thread works on something.
    busy: bool,
    /// Nobody will put anything in any more.
    over: bool,
}

/// Something for the thread to do.
enum Waiting {
    /// A program's log has something that is not written.
    News(Arc<DiskLog>, Arc<dyn Kept>),
    /// Nobody holds the program any more: its log ends as it is.
    Gone(LogWriter),
}

/// A program whose log is kept on disk.
pub(crate) trait Kept: Send + Sync + 'static {
    /// What is not written yet, or a part of it.
    fn unkept(&self) -> Unkept;
    /// Everything up to this number is written.
    fn kept(&self, seq: Seq);
    /// Nothing more is to be written: the disk failed.
    fn keep_no_more(&self);
}

/// What is to be written of a program's log.
#[derive(Debug, Default)]
pub(crate) struct Unkept {
    /// What happened, in order.
    pub(crate) events: Vec<DiskEvent>,
    /// There is more.
    pub(crate) more: bool,
    /// With the last of it: behind the last event of all, and what there is to say of the exit.
    pub(crate) end: Option<(Position, Vec<u8>)>,
}

/// Something that happened to a program.
#[derive(Debug)]
pub(crate) struct DiskEvent {
    /// Its number.
    pub(crate) seq: Seq,
    /// What it was.
    pub(crate) kind: Kind,
    /// The output, or what there is to say.
    pub(crate) content: Bytes,
}

/// A program's log on disk, which is ended when this is dropped.
pub(crate) struct DiskLog {
    id: LogId,
    open: Arc<OpenLogs>,
    /// Only the thread uses it. None once the log has ended.
    writer: Mutex<Option<LogWriter>>,
}

impl std::fmt::Debug for OpenLogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenLogs").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Logs {
    /// Keeps logs in the directory `path`, within these bounds. Does no I/O.
    #[must_use]
    pub fn new(path: PathBuf, limits: &LogLimits) -> Self {
        let bounds = Bounds {
            log_bytes: limits.log_bytes,
            segment_bytes: limits.log_segment_bytes,
            all_bytes: limits.all_log_bytes,
            kept: limits.log_time,
        };
        Self(Some(Arc::new(Shared { path, bounds, open: Mutex::new(None) })))
    }

    /// Whether this server keeps logs on disk.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// The opened store; nothing where none is kept. Blocks: the first time it ends the logs of dead servers.
    ///
    /// # Errors
    /// Of the system; when the directory is a link or belongs to somebody else.
    pub(crate) fn open(&self) -> Result<Option<Arc<OpenLogs>>, LogError> {
        let Some(shared) = &self.0 else { return Ok(None) };
        let mut open = shared.open.lock();
        if open.is_none() {
            let store = Store::open(&shared.path, shared.bounds)?;
            match store.recover(now()) {
                Ok(found) if found.unreadable > 0 => {
                    tracing::warn!(
                        logs = found.unreadable,
                        "logs on disk were damaged beyond reading and are removed"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "can't tidy up the logs of servers that died"),
            }
            *open = Some(writer::start(store)?);
        }
        Ok(open.clone())
    }

    /// Waits, for a bounded time, until all that happened is written. Blocks.
    pub(crate) fn flush(&self) {
        let open = self.0.as_ref().and_then(|shared| shared.open.lock().clone());
        let Some(open) = open else { return };
        let deadline = Instant::now() + LAST_WRITES_TIME;
        let mut queue = open.queue.lock();
        while queue.busy || !queue.waiting.is_empty() {
            if open.idle.wait_until(&mut queue, deadline).timed_out() {
                tracing::warn!("some output is not written to disk: the disk is too slow");
                return;
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(open) = self.open.get_mut().take() {
            open.queue.lock().over = true;
            open.more.notify_all();
        }
    }
}

impl OpenLogs {
    /// The store, to be read.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Begins a program's log; `about` is what there is to say of it. Blocks.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn begin(self: &Arc<Self>, about: &[u8]) -> Result<Arc<DiskLog>, LogError> {
        let writer = self.store.create(about, now())?;
        Ok(Arc::new(DiskLog { id: writer.id(), open: Arc::clone(self), writer: Mutex::new(Some(writer)) }))
    }

    fn put(&self, waiting: Waiting) {
        self.queue.lock().waiting.push_back(waiting);
        self.more.notify_one();
    }
}

impl DiskLog {
    /// Its id.
    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    /// The program has something that is not written. The caller keeps it from standing in the queue twice.
    pub(crate) fn news_of(self: &Arc<Self>, program: Arc<dyn Kept>) {
        self.open.put(Waiting::News(Arc::clone(self), program));
    }

    /// Opens it to be read. Blocks.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn reader(&self) -> Result<LogReader, LogError> {
        self.open.store.reader(self.id)
    }

    /// The program was not started: removes its log. Blocks.
    pub(crate) fn discard(&self) {
        if let Some(writer) = self.writer.lock().take() {
            writer.discard();
        }
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.get_mut().take() {
            self.open.put(Waiting::Gone(writer));
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
