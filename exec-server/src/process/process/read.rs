//! What is asked of a process, now or once there is news: its output, its end, its line in the list.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_exec_protocol::process::{
    AttachmentEnd, ProcessInfo, ProcessState, ReadParams, ReadResult, WaitResult,
};
use codex_exec_protocol::{RpcError, Seq};

use super::{Input, Phase, Process, State, millis, number, unknown_process};
use crate::blocking;
use crate::limits::Limits;
use crate::process::log::OutputLog;
use crate::process::{denied, stored};
use codex_children::orphans::{self, Leftover};

/// A start that takes longer hangs: a read then says that it goes on. A safeguard, far from any real use.
const LONGEST_START: Duration = Duration::from_secs(10);

/// The part of the log in memory that a read asks for.
struct Wanted {
    /// The read begins after this number.
    after: Seq,
    /// Bytes of the first chunk that it does not want.
    skip: usize,
    /// Bytes that it wants and that are gone.
    lost: u64,
}

impl Wanted {
    fn of(params: &ReadParams, log: &OutputLog) -> Self {
        match params.from_offset {
            Some(offset) => {
                let (after, skip, lost) = log.place_of(offset);
                Self { after, skip, lost }
            }
            None => {
                let after = params.after_seq.unwrap_or_default();
                Self { after, skip: 0, lost: log.lost_after(after) }
            }
        }
    }
}

impl Process {
    /// Waits until a read has something to return, or its `waitMs` is up. Before that it waits, for a bounded time, until
    /// the start has ended, as every request after a start does.
    pub async fn news_for(&self, params: &ReadParams, longest_wait: Duration) {
        let started = self.until(|state| !matches!(state.phase, Phase::Starting));
        if tokio::time::timeout(LONGEST_START.min(longest_wait), started).await.is_err() {
            return;
        }
        let wait = Duration::from_millis(params.wait_ms.unwrap_or(0)).min(longest_wait);
        let news = self.until(|state| match state.phase {
            Phase::Starting => false,
            Phase::Failed(_) => true,
            Phase::Running { .. } | Phase::Ended { .. } => {
                state.log.has_news_after(Wanted::of(params, &state.log).after)
            }
        });
        let _ = tokio::time::timeout(wait, news).await;
    }

    /// The result of a read that has waited.
    ///
    /// # Errors
    /// The start failed meanwhile, or still goes on.
    pub fn read_at_last(&self, params: &ReadParams) -> Result<ReadResult<Bytes>, RpcError> {
        self.read_now(params, true)?.ok_or_else(|| self.unknown())
    }

    /// `process/read`: waits for news up to `waitMs`.
    ///
    /// # Errors
    /// As for [`Self::read_at_last`].
    pub async fn read(
        &self,
        params: &ReadParams,
        longest_wait: Duration,
    ) -> Result<ReadResult<Bytes>, RpcError> {
        self.news_for(params, longest_wait).await;
        self.read_at_last(params)
    }

    /// The result of a read now; none if it has to wait and may.
    ///
    /// # Errors
    /// The error of a start that failed, for every read of that process.
    pub fn read_now(
        &self,
        params: &ReadParams,
        time_is_up: bool,
    ) -> Result<Option<ReadResult<Bytes>>, RpcError> {
        let state = self.lock();
        match &state.phase {
            Phase::Failed(_) => return Err(self.unknown()),
            Phase::Starting if time_is_up => {
                return Err(RpcError::invalid_request(format!("process id {} is starting", self.id)));
            }
            Phase::Starting => return Ok(None),
            Phase::Running { .. } | Phase::Ended { .. } => {}
        }
        let wanted = Wanted::of(params, &state.log);
        let may_wait = !time_is_up && params.wait_ms.is_some_and(|wait| wait > 0);
        if may_wait && !state.log.has_news_after(wanted.after) {
            return Ok(None);
        }
        let (mut chunks, next_seq) = state.log.read(wanted.after, params.max_bytes);
        if let Some(first) = chunks.first_mut() {
            first.chunk = first.chunk.slice(wanted.skip..);
        }
        let read = chunks.iter().map(|chunk| chunk.chunk.len() as u64).sum::<u64>();
        let exit = state.log.exit().cloned();
        let sandbox_denied = exit.as_ref().is_some_and(|exit| {
            // The program's words may have come after the exit.
            exit.sandbox_denied
                || (self.sandboxed && denied::is_denied(exit.code, &exit.details, state.log.retained()))
        });
        let result = ReadResult {
            lost_bytes: wanted.lost,
            next_offset: params
                .from_offset
                .map(|offset| offset.min(state.log.totals().sum()) + wanted.lost + read),
            chunk_times_ms: None,
            chunks,
            next_seq,
            exited: exit.is_some(),
            exit_code: exit.as_ref().map(|exit| exit.code),
            closed: state.log.is_closed(),
            failure: None,
            sandbox_denied,
            totals: state.log.totals(),
            exit: exit.map(|exit| exit.details),
        };
        Ok(Some(result))
    }

    /// Whether what a read did not find in memory may be on disk.
    pub(crate) fn may_be_on_disk(&self, found: &ReadResult<Bytes>) -> bool {
        found.lost_bytes > 0 && self.lock().keeping.is_some()
    }

    /// What a read found in memory, or what is on disk where memory has lost it.
    ///
    /// # Errors
    /// `-32603` when the work beside was given up with its runtime.
    pub(crate) async fn read_whole(
        self: &Arc<Self>,
        params: ReadParams,
        limits: Arc<Limits>,
        found: ReadResult<Bytes>,
    ) -> Result<ReadResult<Bytes>, RpcError> {
        if !self.may_be_on_disk(&found) {
            return Ok(found);
        }
        let same = Arc::clone(self);
        let read = blocking::spawn(move || same.read_on_disk(&params, &limits, found)).await;
        read.map_err(|error| RpcError::internal(error.to_string()))
    }

    /// Replaces what a read found in memory by what is on disk, if that is more. Blocks.
    fn read_on_disk(
        &self,
        params: &ReadParams,
        limits: &Limits,
        found: ReadResult<Bytes>,
    ) -> ReadResult<Bytes> {
        let Some(log) = self.disk_log() else { return found };
        let on_disk = log.reader().map_err(|error| stored::refusal(&error));
        match on_disk.and_then(|reader| stored::read(&reader, params, limits)) {
            Ok(page) if !page.chunks.is_empty() => {
                let ReadResult { chunks, next_seq, lost_bytes, .. } = page;
                let next_offset = params.from_offset.and(page.next_offset);
                ReadResult { chunks, next_seq, lost_bytes, next_offset, ..found }
            }
            Ok(_) => found,
            Err(error) => {
                tracing::warn!(process = %self.id, %error, "a log on disk can't be read");
                found
            }
        }
    }

    /// Whether something happened that a connection which is gone had not seen.
    pub fn has_unseen(&self) -> bool {
        self.lock().log.has_unseen()
    }

    /// Whether something is held for a reader that was away.
    pub fn awaits_reading(&self) -> bool {
        self.lock().log.is_held()
    }

    /// A reader has received everything up to `seq`: what was held for it may go.
    pub fn was_read(&self, seq: Seq) {
        self.lock().log.was_read(seq);
        self.pump.notify_one();
    }

    /// Keeps all output for one reader in this process, which says with [`Self::was_read`] what it has.
    pub(crate) fn hold(&self) {
        self.follow(OutputLog::hold);
    }

    /// That reader is gone: the oldest output may go.
    pub(crate) fn release(&self) {
        self.follow(OutputLog::release);
    }

    fn unknown(&self) -> RpcError {
        unknown_process(&self.id)
    }

    /// `process/wait`: until the exit, or until `timeout` is up.
    ///
    /// # Errors
    /// The start failed meanwhile.
    pub async fn wait(&self, timeout: Duration) -> Result<WaitResult, RpcError> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(result) = self.wait_result(false)? {
                return Ok(result);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return self.wait_result(true)?.ok_or_else(|| self.unknown());
            }
        }
    }

    fn wait_result(&self, time_is_up: bool) -> Result<Option<WaitResult>, RpcError> {
        let state = self.lock();
        if matches!(state.phase, Phase::Failed(_)) {
            return Err(self.unknown());
        }
        let exit = state.log.exit().cloned();
        if exit.is_none() && !time_is_up {
            return Ok(None);
        }
        Ok(Some(WaitResult {
            exited: exit.is_some(),
            exit_code: exit.as_ref().map(|exit| exit.code),
            closed: state.log.is_closed(),
            exit: exit.map(|exit| exit.details),
        }))
    }

    /// Waits until the child was reaped, or never started.
    pub(in crate::process) async fn over(&self) {
        self.until(|state| state.log.exit().is_some() || matches!(state.phase, Phase::Failed(_))).await;
    }

    /// Whether the child was reaped and all output seen.
    pub(in crate::process) fn is_closed(&self) -> bool {
        self.lock().log.is_closed()
    }

    /// Waits until another writes, or the program is over and all of its output seen.
    pub(in crate::process) async fn attachment_ended(&self, id: &str) -> AttachmentEnd {
        let is_over = |state: &State| state.log.is_closed() || matches!(state.phase, Phase::Failed(_));
        self.until(|state| is_over(state) || !state.writes_for(id)).await;
        match self.lock().writes_for(id) {
            true => AttachmentEnd::Closed,
            false => AttachmentEnd::TakenOver,
        }
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reached(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Its line in `process/list`.
    pub fn info(&self) -> ProcessInfo {
        let mut state = self.lock();
        state.leftovers.retain(|leftover| orphans::is_running(leftover.stamp).unwrap_or(false));
        let (pid, running) = match state.phase {
            Phase::Starting | Phase::Failed(_) => (None, ProcessState::Starting),
            Phase::Running { pid, .. } => (Some(pid), ProcessState::Running),
            Phase::Ended { pid } => (Some(pid), ProcessState::Exited),
        };
        let exit = state.log.exit().cloned();
        let running_ms = match state.phase {
            Phase::Running { since, .. } => Some(millis(since.elapsed())),
            _ => None,
        };
        let size = match &state.input {
            Input::Terminal(_, terminal) if running_ms.is_some() => {
                codex_children::terminal::size(terminal).ok()
            }
            _ => None,
        };
        ProcessInfo {
            process_id: self.id.clone(),
            pid: pid.map(number),
            argv: self.argv.clone(),
            tty: self.tty,
            state: if state.log.is_closed() { ProcessState::Closed } else { running },
            exit_code: exit.as_ref().map(|exit| exit.code),
            exit: exit.map(|exit| exit.details),
            next_seq: state.log.next_seq(),
            log_id: state.disk_log().map(|log| log.id().to_string()),
            totals: state.log.totals(),
            leftovers: state.leftovers.iter().map(describe).collect(),
            limits_enforced: state.kept.enforced,
            session_id: None,
            attached: false,
            running_ms,
            rows: size.map(|(rows, _)| rows),
            cols: size.map(|(_, cols)| cols),
        }
    }
}

fn describe(leftover: &Leftover) -> codex_exec_protocol::process::Leftover {
    codex_exec_protocol::process::Leftover { pid: number(leftover.stamp.pid), name: leftover.name.clone() }
}
