//! What the way's programs and the server say on stderr: kept while the connection is made, for its error; told afterwards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

use crate::connection::{Event, Tell};

/// So many lines are kept for an error; the last ones say what broke.
const KEPT_LINES: usize = 4;
/// A longer line is cut. A safeguard, far from any real use.
const LONGEST_LINE: u64 = 4096;

/// What was heard so far.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    last: Mutex<VecDeque<String>>,
    /// The server runs: what is said now is told at once.
    serving: AtomicBool,
}

impl Heard {
    /// From now on lines are told and not kept.
    pub(crate) fn serves(&self) {
        self.serving.store(true, Ordering::Relaxed);
        self.last.lock().clear();
    }

    /// The last lines, as one.
    pub(crate) fn last(&self) -> String {
        Vec::from_iter(self.last.lock().iter().cloned()).join("; ")
    }

    fn hear(&self, line: &str, tell: &Tell) {
        if self.serving.load(Ordering::Relaxed) {
            tell(Event::Said(line));
            return;
        }
        let mut last = self.last.lock();
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
}

/// Reads the stderr of a way until it is dropped.
#[derive(Debug)]
pub(crate) struct StderrOfWay(JoinHandle<()>);

impl StderrOfWay {
    pub(crate) fn new(stderr: ChildStderr, heard: Arc<Heard>, tell: Tell) -> Self {
        Self(tokio::spawn(read(stderr, heard, tell)))
    }

    /// Waits until everything was read.
    pub(crate) async fn ended(&mut self) {
        // A task that was aborted has read enough.
        let _ = (&mut self.0).await;
    }
}

impl Drop for StderrOfWay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(stderr: ChildStderr, heard: Arc<Heard>, tell: Tell) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while (&mut stderr).take(LONGEST_LINE).read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            heard.hear(text, &tell);
        }
        line.clear();
    }
}
