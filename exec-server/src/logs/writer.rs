//! The thread that writes programs' output to disk, and keeps the store within its bounds.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use codex_disk_log::{LogError, LogId, LogWriter, Piece, Position, Store};
use parking_lot::{Condvar, Mutex};

use super::{DiskLog, Kept, OpenLogs, Queue, Unkept, Waiting, now};

/// Old logs are looked for at least so often. Our own pace: nothing outside depends on it.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// And at most so often, after something was written. Our own pace: nothing outside depends on it.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// Starts the thread, which ends with the server's [`super::Logs`].
pub(super) fn start(store: Store) -> Result<Arc<OpenLogs>, LogError> {
    let open = Arc::new(OpenLogs {
        store,
        queue: Mutex::new(Queue::default()),
        more: Condvar::new(),
        idle: Condvar::new(),
    });
    let (same, thread) = (Arc::clone(&open), std::thread::Builder::new().name("disk-logs".into()));
    thread.spawn(move || run(&same)).map_err(|source| LogError::Io {
        action: "start a thread for",
        path: "the logs on disk".into(),
        source,
    })?;
    Ok(open)
}

fn run(open: &OpenLogs) {
    let mut writing = Writing::default();
    while let Some(waiting) = next(open, writing.next_sweep()) {
        match waiting {
            None => {}
            Some(Waiting::Gone(writer)) => {
                let position = writer.position();
                finish(writer, position, None);
                writing.changed = true;
            }
            Some(Waiting::News(log, program)) => {
                let more = writing.write(&log, &*program);
                if more {
                    open.put(Waiting::News(log, program));
                }
            }
        }
        writing.sweep_when_due(open);
        let mut queue = open.queue.lock();
        queue.busy = false;
        if queue.waiting.is_empty() {
            open.idle.notify_all();
        }
    }
}

/// Waits for something to do: nothing at `until`, or at once. None once the server's [`super::Logs`] are gone and all is done.
fn next(open: &OpenLogs, until: Option<Instant>) -> Option<Option<Waiting>> {
    let mut queue = open.queue.lock();
    loop {
        if let Some(waiting) = queue.waiting.pop_front() {
            queue.busy = true;
            return Some(Some(waiting));
        }
        if queue.over {
            return None;
        }
        if until.is_none_or(|until| open.more.wait_until(&mut queue, until).timed_out()) {
            return Some(None);
        }
    }
}

/// What the thread remembers between two pieces of work.
#[derive(Default)]
struct Writing {
    /// Logs that were written to, and have not ended.
    logs: HashMap<LogId, Weak<DiskLog>>,
    last_sweep: Option<Instant>,
    /// Something was written, or ended, since then.
    changed: bool,
}

impl Writing {
    /// Writes what is new of a program. Whether there is more.
    fn write(&mut self, log: &Arc<DiskLog>, program: &dyn Kept) -> bool {
        let Unkept { events, more, end } = program.unkept();
        let mut place = log.writer.lock();
        let Some(writer) = &mut *place else { return false };
        let time = now();
        let pieces: Vec<_> =
            events.iter().map(|event| Piece { kind: event.kind, time, content: &event.content }).collect();
        if let Some(last) = events.last() {
            self.changed = true;
            self.logs.entry(log.id()).or_insert_with(|| Arc::downgrade(log));
            match writer.append(&pieces) {
                Ok(()) => program.kept(last.seq),
                Err(error) => {
                    tracing::warn!(%error, "a program's output is not kept on disk from here on; it goes on without");
                    writer.give_up(&error.to_string(), time);
                    program.keep_no_more();
                }
            }
        }
        if let Some((position, exit)) = end {
            if let Some(writer) = place.take() {
                finish(writer, position, Some(exit));
            }
            self.logs.remove(&log.id());
            self.changed = true;
        }
        more
    }

    /// When old logs are to be looked for; at once if they never were.
    fn next_sweep(&self) -> Option<Instant> {
        let pause = if self.changed { SWEEP_AGAIN } else { SWEEP_EVERY };
        self.last_sweep.map(|last| last + pause)
    }

    /// Removes logs that are old or too many.
    fn sweep_when_due(&mut self, open: &OpenLogs) {
        if self.next_sweep().is_some_and(|next| Instant::now() < next) {
            return;
        }
        self.last_sweep = Some(Instant::now());
        self.changed = false;
        self.logs.retain(|_, log| log.strong_count() > 0);
        match open.store.sweep(now()) {
            Ok(swept) if swept.too_many > 0 => self.make_room(swept.too_many),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "can't remove old logs"),
        }
    }

    /// Removes the oldest output of the logs that have most of it.
    fn make_room(&self, mut bytes: u64) {
        let logs: Vec<_> = self.logs.values().filter_map(Weak::upgrade).collect();
        while bytes > 0 {
            let size = |log: &&Arc<DiskLog>| log.writer.lock().as_ref().map_or(0, LogWriter::size);
            let Some(largest) = logs.iter().max_by_key(size) else { return };
            let freed = largest.writer.lock().as_mut().map_or(0, LogWriter::drop_oldest);
            if freed == 0 {
                return;
            }
            bytes = bytes.saturating_sub(freed);
        }
    }
}

fn finish(writer: LogWriter, position: Position, exit: Option<Vec<u8>>) {
    let id = writer.id();
    if let Err(error) = writer.finish(position, exit, now()) {
        tracing::warn!(%error, %id, "can't end a log on disk; the next server that uses it will");
    }
}
