//! A program of this machine whose output goes to one reader in this process, without loss.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{ReadParams, ReadResult};

use crate::environment::ProcessEvent;
use crate::process::Process;

/// The longest of one wait for news; then it is waited for again. Our own pace: nothing outside depends on it.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A program and its one reader. Dropping it before the end ends the program with its tree.
pub(crate) struct Followed {
    process: Arc<Process>,
    /// The last number that was read.
    read: Seq,
    ready: VecDeque<ProcessEvent>,
    exit_told: bool,
    closed: bool,
}

impl Followed {
    /// A process whose output is held for this reader since its start.
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self { process, read: Seq::NONE, ready: VecDeque::new(), exit_told: false, closed: false }
    }

    /// The next event; none after [`ProcessEvent::Closed`]. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<ProcessEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.closed {
                return None;
            }
            // What was taken may be forgotten, so a program that waits for room goes on.
            self.process.was_read(self.read);
            let wait_ms = u64::try_from(LONGEST_WAIT.as_millis()).ok();
            let after = ReadParams {
                process_id: self.process.id().clone(),
                after_seq: Some(self.read),
                max_bytes: None,
                wait_ms,
                from_offset: None,
                log_id: None,
                with_times: None,
                session_id: None,
                attachment_id: None,
            };
            match self.process.read(&after, LONGEST_WAIT).await {
                Ok(result) => self.take(result),
                Err(error) => {
                    self.closed = true;
                    self.ready.push_back(ProcessEvent::Disconnected { reason: error.message });
                }
            }
        }
    }

    fn take(&mut self, result: ReadResult<Bytes>) {
        if result.lost_bytes > 0 {
            self.ready.push_back(ProcessEvent::Lost { bytes: Some(result.lost_bytes) });
        }
        for chunk in result.chunks {
            self.ready.push_back(ProcessEvent::Output { stream: chunk.stream, bytes: chunk.chunk.into() });
        }
        self.read = result.next_seq.previous();
        if let (Some(code), false) = (result.exit_code, self.exit_told) {
            self.exit_told = true;
            let details = result.exit.unwrap_or_default();
            self.ready.push_back(ProcessEvent::Exited { code, details });
        }
        if result.closed {
            self.closed = true;
            self.ready.push_back(ProcessEvent::Closed);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if !self.closed {
            self.process.terminate(None);
        }
        self.process.release();
    }
}
