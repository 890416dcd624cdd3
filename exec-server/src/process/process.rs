//! One process: its state, its log, and what changes them.

mod follow;
mod keep;
mod read;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_exec_protocol::process::{ExitDetails, LimitsEnforced, LoggedExit, StartParams, Stream};
use codex_exec_protocol::{ProcessId, RpcError};
use parking_lot::{Mutex, MutexGuard};
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::denied;
use super::groups::Group;
use super::kept::Keeping;
use super::log::{Exit, OutputLog};
use super::news::News;
use super::stdin::Stdin;
use super::survival::record::ProcessRecord;
use super::survival::{self, Safe};
use super::write_memory::WriteMemory;
use crate::Limits;
use crate::blocking;
use crate::logs::DiskLog;
use crate::network::proxy::NetworkHandle;
use crate::sandbox::Confined;
use codex_children::orphans::Leftover;
use codex_children::reap::Ending;

/// A process of a session, from the start request to eviction.
pub struct Process {
    id: ProcessId,
    argv: Vec<String>,
    pub(super) tty: bool,
    /// Nothing is pushed, and no connection follows.
    pull_only: bool,
    /// It was asked for with a sandbox, even one that restricts nothing.
    pub(super) sandboxed: bool,
    state: Mutex<State>,
    news: Arc<News>,
    /// An event was appended, or the start ended.
    changed: Notify,
    /// The pump should look again: room in the log, or a new deadline.
    pub(super) pump: Notify,
}

/// What is left of an ended process until it is forgotten is this and a few strings, so it stays small.
const _: () = assert!(size_of::<Process>() <= 608);

pub(super) struct State {
    pub(super) phase: Phase,
    /// What waits for the end of the start; none once all of it is done.
    deferred: Option<Vec<Deferred>>,
    pub(super) log: OutputLog,
    pub(super) input: Input,
    pub(super) writes: WriteMemory,
    /// Its log on disk, if it has one.
    pub(super) keeping: Option<Box<Keeping>>,
    /// The last byte that was typed into a terminal.
    pub(super) last_typed: u8,
    /// Writes to its input so far.
    pub(super) inputs: u64,
    /// Who writes, of those that say who they are.
    pub(super) attachment: Option<Arc<String>>,
    in_news: bool,
    /// Somebody asked for the end.
    pub(super) terminated: bool,
    /// A deadline asked for the end.
    pub(super) timed_out: bool,
    /// After a `graceMs`: when SIGKILL follows.
    pub(super) kill_at: Option<Instant>,
    /// What outlived the child.
    pub(super) leftovers: Vec<Leftover>,
    pub(super) kept: Kept,
    /// What serves its network.
    network: Option<NetworkHandle>,
    /// What of it is kept for the next server.
    pub(super) safe: Option<Arc<Safe>>,
}

/// What is there as long as the child runs.
#[derive(Default)]
pub(super) struct Kept {
    /// What its sandbox needs on the disk.
    pub(super) confined: Option<Arc<Confined>>,
    /// Whether that leaves protected names of the workspace unprotected; told afterwards too.
    pub(super) leaves_names: bool,
    /// What bounds it together with its descendants.
    pub(super) group: Option<Group>,
    /// What holds it to its limits; told afterwards too.
    pub(super) enforced: Option<LimitsEnforced>,
}

/// What a program is kept as for the next server.
#[derive(Clone, Copy)]
pub(super) struct KeptAs<'a> {
    /// The hash of its session's id.
    pub(super) session: &'a str,
    /// Its place in the order of the session's starts.
    pub(super) number: u64,
}

/// Something to do once a start has ended; told how.
type Deferred = Box<dyn FnOnce(Result<(), &RpcError>) + Send>;

pub(super) enum Phase {
    Starting,
    /// In a box, since others are many and small.
    Failed(Box<RpcError>),
    Running {
        pid: Pid,
        since: Instant,
    },
    Ended {
        pid: Pid,
    },
}

pub(super) enum Input {
    /// Started with neither terminal nor `pipeStdin`, or closed by `process/closeStdin`.
    None,
    Pipe(Arc<Stdin>),
    Terminal(Arc<Stdin>, Arc<AsyncFd<OwnedFd>>),
    /// The program is over: what is written is accepted, and lost (8.4).
    Lost,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Process {
    pub(super) fn new(params: &StartParams, sandboxed: bool, news: Arc<News>, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            id: params.process_id.clone(),
            argv: params.argv.clone(),
            tty: params.tty,
            pull_only: params.pull_only,
            sandboxed,
            state: Mutex::new(State::new(Phase::Starting, limits)),
            news,
            changed: Notify::new(),
            pump: Notify::new(),
        })
    }

    /// The id that the client gave it.
    pub fn id(&self) -> &ProcessId {
        &self.id
    }

    /// A program that an earlier server has started.
    pub(super) fn adopted(about: &ProcessRecord, news: Arc<News>, state: State) -> Arc<Self> {
        Arc::new(Self {
            id: about.id.as_str().into(),
            argv: about.argv.clone(),
            tty: about.tty,
            pull_only: about.pull_only,
            sandboxed: about.sandboxed,
            state: Mutex::new(state),
            news,
            changed: Notify::new(),
            pump: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What the next server is to know of it: what the start request alone tells.
    pub(super) fn record_of(&self, kept_as: KeptAs<'_>) -> ProcessRecord {
        ProcessRecord {
            session: kept_as.session.to_owned(),
            number: kept_as.number,
            id: self.id.as_str().to_owned(),
            argv: survival::record::arguments(&self.argv),
            tty: self.tty,
            pull_only: self.pull_only,
            sandboxed: self.sandboxed,
            started: survival::boot_ms(),
            ..ProcessRecord::default()
        }
    }

    // ---- the start

    /// Runs `action` once the start has ended, at once if it has; in the order of the calls.
    pub fn when_started(&self, action: impl FnOnce(Result<(), &RpcError>) + Send + 'static) {
        let mut state = self.lock();
        if let Some(deferred) = &mut state.deferred {
            deferred.push(Box::new(action));
            return;
        }
        let failure = match &state.phase {
            Phase::Failed(error) => Some((**error).clone()),
            _ => None,
        };
        drop(state);
        action(failure.as_ref().map_or(Ok(()), Err));
    }

    /// Whether its sandbox leaves protected names of the workspace unprotected.
    pub(crate) fn leaves_names_unprotected(&self) -> bool {
        self.lock().kept.leaves_names
    }

    /// Whether its start still goes on.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.lock().phase, Phase::Starting)
    }

    pub(super) fn set_running(
        &self,
        pid: Pid,
        since: Instant,
        stdin: Option<Arc<Stdin>>,
        terminal: Option<Arc<AsyncFd<OwnedFd>>>,
        kept: Kept,
    ) {
        let mut state = self.lock();
        state.kept = kept;
        state.input = match (stdin, terminal) {
            (Some(stdin), Some(terminal)) => Input::Terminal(stdin, terminal),
            (Some(stdin), None) => Input::Pipe(stdin),
            (None, _) => Input::None,
        };
        self.end_start(state, Phase::Running { pid, since }, Ok(()));
    }

    /// Keeps what is to outlive this server.
    pub(super) fn keep_safe(&self, safe: Option<Arc<Safe>>) {
        self.lock().safe = safe;
    }

    /// Keeps the program's network until it has ended.
    pub(super) fn keep_network(&self, network: Option<NetworkHandle>) {
        self.lock().network = network;
    }

    pub(super) fn set_failed(&self, error: &RpcError) {
        self.end_start(self.lock(), Phase::Failed(Box::new(error.clone())), Err(error));
    }

    fn end_start<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        phase: Phase,
        outcome: Result<(), &RpcError>,
    ) {
        state.phase = phase;
        // What comes meanwhile queues up behind, so that the order holds.
        while let Some(actions) =
            state.deferred.as_mut().map(std::mem::take).filter(|actions| !actions.is_empty())
        {
            drop(state);
            for action in actions {
                action(outcome);
            }
            state = self.lock();
        }
        state.deferred = None;
        drop(state);
        self.changed.notify_waiters();
    }

    // ---- events

    /// Appends to the log and tells readers and the follower.
    pub(super) fn record(self: &Arc<Self>, append: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        append(&mut state);
        let announce = !state.in_news && !state.log.all_sent();
        state.in_news |= announce;
        let State { keeping, log, .. } = &mut *state;
        let disk_log = keeping.as_mut().and_then(|keeping| keeping.due(log));
        drop(state);
        self.changed.notify_waiters();
        if let Some(disk_log) = disk_log {
            disk_log.news_of(Arc::clone(self) as _);
        }
        if announce {
            self.news.push(Arc::clone(self));
        }
    }

    pub(super) fn record_exit(self: &Arc<Self>, pid: Pid, ending: &Ending, leftovers: Vec<Leftover>) {
        let (tty, sandboxed) = (self.tty, self.sandboxed);
        // Read with nothing locked.
        let events = self.lock().group().map(Group::events);
        let oom_killed = events.is_some_and(|events| events.had_no_memory());
        self.record(|state| {
            let since = match state.phase {
                Phase::Running { since, .. } => since,
                _ => Instant::now(),
            };
            let details = ExitDetails {
                signal: ending.signal(),
                core_dumped: ending.core_dumped,
                timed_out: state.timed_out,
                oom_killed,
                cpu_user_ms: millis(ending.cpu_user),
                cpu_system_ms: millis(ending.cpu_system),
                max_rss_bytes: ending.max_rss_bytes,
                duration_ms: millis(since.elapsed()),
            };
            let code = ending.exit_code(tty);
            let sandbox_denied = sandboxed && denied::is_denied(code, &details, state.log.retained());
            let totals = state.log.totals();
            let said = LoggedExit { code, details: details.clone(), sandbox_denied, totals };
            let seq = state.log.exited(Exit { code, details, sandbox_denied });
            if let Some(safe) = &state.safe {
                safe.exited(seq, &said);
            }
            state.phase = Phase::Ended { pid };
            if let Some(network) = state.network.take() {
                network.leave_to(leftovers.iter().map(|leftover| leftover.stamp).collect());
            }
            if let Some(confined) = state.kept.confined.take() {
                denied::release(confined, !leftovers.is_empty());
            }
            if let Some(group) = state.kept.group.take() {
                // Removing it may take the kernel a while.
                blocking::spawn(move || drop(group)).detach();
            }
            state.leftovers = leftovers;
        });
    }

    pub(super) fn record_close(self: &Arc<Self>) {
        self.news.end();
        self.record(|state| {
            let seq = state.log.closed();
            if let Some(safe) = &state.safe {
                safe.closed(seq);
            }
            if let Input::Pipe(stdin) | Input::Terminal(stdin, _) = &state.input {
                stdin.shut();
                state.input = Input::Lost;
            }
        });
    }

    /// Hands over what outlived the child.
    pub(super) fn take_leftovers(&self) -> Vec<Leftover> {
        std::mem::take(&mut self.lock().leftovers)
    }
}

impl State {
    pub(super) fn new(phase: Phase, limits: &Limits) -> Self {
        Self {
            deferred: matches!(phase, Phase::Starting).then(Vec::new),
            phase,
            log: OutputLog::new(limits.process.retained_output_bytes),
            input: Input::None,
            writes: WriteMemory::new(limits.process.remembered_write_ids),
            keeping: None,
            last_typed: b'\n',
            inputs: 0,
            attachment: None,
            in_news: false,
            terminated: false,
            timed_out: false,
            kill_at: None,
            leftovers: Vec::new(),
            kept: Kept::default(),
            network: None,
            safe: None,
        }
    }

    /// What bounds it together with its descendants.
    pub(super) fn group(&self) -> Option<&Group> {
        self.kept.group.as_ref()
    }

    pub(super) fn disk_log(&self) -> Option<Arc<DiskLog>> {
        self.keeping.as_ref().map(|keeping| Arc::clone(keeping.log()))
    }

    /// Whether this attachment is the one that writes.
    pub(super) fn writes_for(&self, attachment: &str) -> bool {
        self.attachment.as_ref().is_some_and(|id| **id == attachment)
    }

    pub(super) fn output(&mut self, stream: Stream, bytes: Bytes) {
        self.log.append(stream, bytes);
    }
}

/// The process, for what is refused without one.
///
/// # Errors
/// `-32600`.
pub(crate) fn known<'p>(process: Option<&'p Arc<Process>>, id: &str) -> Result<&'p Arc<Process>, RpcError> {
    process.ok_or_else(|| unknown_process(id))
}

/// `-32600`: no such process (8.3).
pub(super) fn unknown_process(id: &str) -> RpcError {
    RpcError::invalid_request(format!("unknown process id {id}"))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
