//! The thread that writes.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::file::AuditFile;
use crate::queue::{Lost, Queue};
use crate::text::timestamp;

/// Between two tries to write while that fails. Our own pace: nothing outside depends on it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Lines are gathered up to this many bytes for one write. Chosen for speed.
const WRITE_BYTES: usize = 64 << 10;

/// What tells that acts are missing.
#[derive(Serialize)]
struct Gap {
    time: String,
    event: &'static str,
    lost: u64,
    since: String,
}

/// Writes records until nobody can put any in.
pub(crate) fn run<R: Serialize>(queue: &Queue<R>, mut file: AuditFile) {
    let mut failing = false;
    while let Some(taken) = queue.take() {
        let mut records = taken.records;
        let (mut lines, mut lost) = (Lines::default(), taken.lost);
        loop {
            lines.gather(&mut records);
            if records.is_empty() {
                // They came when these records had filled the queue.
                lines.gap(lost.take());
            }
            match file.append(&lines.text) {
                Ok(()) => {
                    queue.written(lines.records);
                    if std::mem::take(&mut failing) {
                        tracing::info!("the audit file can be written again");
                    }
                    lines = Lines::default();
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, path = %file.path().display(), "can't write the audit file; trying again");
                    }
                    if !queue.pause(RETRY_PAUSE) {
                        return;
                    }
                }
            }
            if lines.text.is_empty() && records.is_empty() && lost.is_none() {
                break;
            }
        }
    }
}

/// Lines that go to the file together.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    records: usize,
}

impl Lines {
    fn gather<R: Serialize>(&mut self, records: &mut VecDeque<R>) {
        while self.text.len() < WRITE_BYTES
            && let Some(record) = records.pop_front()
        {
            self.line(&record);
            self.records += 1;
        }
    }

    fn gap(&mut self, lost: Option<Lost>) {
        if let Some(Lost { acts, since }) = lost {
            let time = timestamp(SystemTime::now());
            self.line(&Gap { time, event: "gap", lost: acts, since: timestamp(since) });
        }
    }

    fn line(&mut self, record: &impl Serialize) {
        let before = self.text.len();
        match serde_json::to_writer(&mut self.text, record) {
            Ok(()) => self.text.push(b'\n'),
            Err(error) => {
                self.text.truncate(before);
                tracing::error!(%error, "an audit record can't be put into words");
            }
        }
    }
}
