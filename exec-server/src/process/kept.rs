//! A process's log on disk: what the thread that writes it is handed.

use std::sync::Arc;

use bytes::Bytes;
use codex_disk_log::{Kind, Position};
use codex_exec_protocol::process::{LoggedExit, Stream, StreamTotals};

use super::log::{Exit, LogEvent, OutputLog};
use crate::logs::{self, DiskLog, Unkept};

/// Bytes that are handed over at once. Chosen for speed.
const AT_ONCE: usize = 1 << 20;

/// A process's log on disk, and how far the thread is with it.
pub(super) struct Keeping {
    log: Arc<DiskLog>,
    /// The process stands in the thread's queue.
    queued: bool,
    /// The thread was told of the end.
    ended: bool,
}

impl Keeping {
    pub(super) fn new(log: Arc<DiskLog>) -> Self {
        Self { log, queued: false, ended: false }
    }

    /// The log on disk.
    pub(super) fn log(&self) -> &Arc<DiskLog> {
        &self.log
    }

    /// The thread was handed this.
    pub(super) fn handed(&mut self, unkept: &Unkept) {
        self.queued = unkept.more;
        self.ended = unkept.end.is_some();
    }

    /// Where the process has to be put into the queue, because of what its log holds by now.
    pub(super) fn due(&mut self, log: &OutputLog) -> Option<Arc<DiskLog>> {
        let due = !self.queued && !self.ended && (log.has_unkept() || log.is_closed());
        self.queued |= due;
        due.then(|| Arc::clone(&self.log))
    }
}

/// What is on its way to the disk of this log, or a part of it.
pub(super) fn unkept(log: &OutputLog) -> Unkept {
    let totals = log.totals();
    let (mut events, mut bytes, mut more) = (Vec::new(), 0, false);
    for event in log.unkept() {
        if bytes >= AT_ONCE {
            more = true;
            break;
        }
        let event = written(event, totals);
        bytes += event.content.len();
        events.push(event);
    }
    let end = (!more && log.is_closed()).then(|| {
        let position = Position { seq: log.next_seq().0, offset: totals.sum() };
        (position, log.exit().map(|exit| said_of(exit, totals)).unwrap_or_default())
    });
    Unkept { events, more, end }
}

fn written(event: LogEvent<'_>, totals: StreamTotals) -> logs::DiskEvent {
    match event {
        LogEvent::Output(chunk) => {
            let kind = match chunk.stream {
                Stream::Stdout => Kind::Stdout,
                Stream::Stderr => Kind::Stderr,
                Stream::Pty => Kind::Pty,
            };
            logs::DiskEvent { seq: chunk.seq, kind, content: chunk.chunk.clone() }
        }
        LogEvent::Exited(seq, exit) => {
            logs::DiskEvent { seq, kind: Kind::Exited, content: said_of(exit, totals).into() }
        }
        LogEvent::Closed(seq) => logs::DiskEvent { seq, kind: Kind::Closed, content: Bytes::new() },
    }
}

/// What is kept of an end.
fn said_of(exit: &Exit, totals: StreamTotals) -> Vec<u8> {
    let Exit { code, details, sandbox_denied } = exit.clone();
    serde_json::to_vec(&LoggedExit { code, details, sandbox_denied, totals }).unwrap_or_default()
}
