//! One program that an agent works with: what it printed so far, and how far it has come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::places::Place;
use super::reading::{Reading, Shape, Shown, State};
use super::transcript::Transcript;
use super::{Ask, Listed};
use crate::environment::{Events, ProcessEvent};
use crate::protocol::ProcessId;

/// A started program. Dropping it ends the program, should it run.
pub(super) struct Program {
    pub(super) id: ProcessId,
    pub(super) argv: Vec<String>,
    pub(super) tty: bool,
    pub(super) since: Instant,
    progress: Arc<Progress>,
    /// Where a reading without a cursor goes on.
    here: Mutex<u64>,
    writes: AtomicU64,
    /// When it was last looked at, in looks at all programs.
    pub(super) used: AtomicU64,
    /// Its place, as long as it runs or somebody has yet to look at it.
    place: Weak<Place>,
    follower: JoinHandle<()>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// What is known of a program.
struct Progress {
    known: Mutex<Known>,
    /// Counts what became known.
    changed: watch::Sender<u64>,
}

struct Known {
    transcript: Transcript,
    state: State,
    /// Bytes that never came: the connection was away for too long.
    missed: u64,
}

impl Known {
    /// Whether nothing more will come.
    fn is_over(&self) -> bool {
        match &self.state {
            State::Running => false,
            State::Exited { complete, .. } => *complete,
            State::Lost { .. } => true,
        }
    }

    fn take(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Output { stream, bytes } => self.transcript.append(stream, &bytes),
            ProcessEvent::Exited { code, details } => {
                let duration = (details.duration_ms > 0).then(|| Duration::from_millis(details.duration_ms));
                self.state = State::Exited {
                    code,
                    signal: details.signal,
                    timed_out: details.timed_out,
                    duration,
                    complete: false,
                };
            }
            ProcessEvent::Closed => {
                self.transcript.finish();
                if let State::Exited { complete, .. } = &mut self.state {
                    *complete = true;
                }
            }
            ProcessEvent::Lost { bytes } => self.missed += bytes.unwrap_or(1),
            ProcessEvent::Disconnected { reason } => {
                self.transcript.finish();
                // An end that is known stays known.
                if self.state == State::Running {
                    self.state = State::Lost { reason };
                }
            }
        }
    }
}

/// Takes everything that becomes of a program, so that it never waits for an agent to look.
async fn follow(mut events: Events, progress: Arc<Progress>, place: Arc<Place>) {
    let mut place = Some(place);
    while let Some(event) = events.next().await {
        let is_over = {
            let mut known = progress.known.lock();
            known.take(event);
            known.is_over()
        };
        if is_over {
            place = None;
        }
        progress.changed.send_modify(|count| *count += 1);
    }
    let mut known = progress.known.lock();
    if !known.is_over() {
        known.take(ProcessEvent::Disconnected { reason: "its environment has ended".into() });
    }
    drop(known);
    drop(place);
    progress.changed.send_modify(|count| *count += 1);
}

impl Program {
    /// A program that has just been started. Inside a tokio runtime.
    pub(super) fn new(
        id: ProcessId,
        argv: Vec<String>,
        tty: bool,
        events: Events,
        kept: Transcript,
        place: Arc<Place>,
    ) -> Self {
        let known = Known { transcript: kept, state: State::Running, missed: 0 };
        let progress = Arc::new(Progress { known: Mutex::new(known), changed: watch::Sender::new(0) });
        let here = Arc::downgrade(&place);
        let follower = tokio::spawn(follow(events, Arc::clone(&progress), place));
        Self {
            id,
            argv,
            tty,
            since: Instant::now(),
            progress,
            here: Mutex::new(0),
            writes: AtomicU64::new(0),
            used: AtomicU64::new(0),
            place: here,
            follower,
        }
    }

    pub(super) fn state(&self) -> State {
        self.progress.known.lock().state.clone()
    }

    /// What it has printed, and how much of it was not read yet, in bytes.
    pub(super) fn printed(&self) -> (u64, u64) {
        let total = self.progress.known.lock().transcript.total();
        (total, total.saturating_sub(*self.here.lock()))
    }

    /// Whether it may make room for another: it has ended, and nobody has yet to look at it.
    pub(super) fn may_go(&self) -> bool {
        self.place.strong_count() == 0
    }

    pub(super) fn listed(&self) -> Listed {
        let (total_bytes, unread_bytes) = self.printed();
        Listed {
            process: self.id.clone(),
            argv: self.argv.clone(),
            tty: self.tty,
            state: self.state(),
            age: self.since.elapsed(),
            total_bytes,
            unread_bytes,
        }
    }

    /// A name for the next write, so that a repeated one does no harm.
    pub(super) fn next_write(&self) -> String {
        (self.writes.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }

    /// Waits as asked, then shows what there is. `linger`: how long after its end the rest of its output is waited for.
    pub(super) async fn read(&self, ask: &Ask, linger: Duration) -> Reading {
        let begun = Instant::now();
        let from = ask.cursor.unwrap_or_else(|| *self.here.lock());
        self.wait(ask, from, linger).await;
        let known = self.progress.known.lock();
        let shown = Shown::of(&known.transcript, from, ask.budget.bytes(), ask.shape);
        *self.here.lock() = shown.next_cursor;
        Reading {
            process: self.id.clone(),
            state: known.state.clone(),
            wall_time: begun.elapsed(),
            output: shown.output,
            from: shown.from,
            next_cursor: shown.next_cursor,
            total_bytes: known.transcript.total(),
            shown_bytes: shown.shown_bytes,
            cut_bytes: shown.cut_bytes,
            lost_bytes: shown.lost_bytes + known.missed,
        }
    }

    /// Until it is over, a page is full, or the time is up.
    async fn wait(&self, ask: &Ask, from: u64, linger: Duration) {
        let mut changed = self.progress.changed.subscribe();
        let mut deadline = Instant::now() + ask.wait;
        let mut ended = false;
        let page = ask.budget.bytes() as u64;
        loop {
            {
                let known = self.progress.known.lock();
                let is_full =
                    ask.shape == Shape::Page && known.transcript.total() >= from.saturating_add(page);
                if known.is_over() || is_full {
                    return;
                }
                if known.state != State::Running && !ended {
                    // Its last words are on their way; what a background program says is not waited for.
                    ended = true;
                    deadline = deadline.min(Instant::now() + linger);
                }
            }
            // The sender lives as long as this does.
            if !matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}
