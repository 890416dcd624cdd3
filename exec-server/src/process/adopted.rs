//! Goes on with a program that an earlier server has started, from what was kept of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_children::descriptor::register;
use codex_children::orphans::{self, Origin};
use codex_children::reap;
use codex_children::streams::Ends;
use codex_exec_protocol::process::{Chunk, LoggedExit};
use rustix::process::Pid;
use tokio::io::Interest;

use super::launch::Streams;
use super::log::{Exit, Left, OutputLog};
use super::news::News;
use super::process::{Input, Phase, Process, State};
use super::pump::Watched;
use super::survival::record::ProcessRecord;
use super::survival::{self, Adopted, Found, Kept, Safe, Store, boot_ms};
use crate::Limits;

/// What an earlier server has left of a program.
#[derive(Debug)]
pub(crate) struct LeftProgram {
    pub(in crate::process) kept: Kept,
    pub(in crate::process) found: Found,
    /// Its process. None once it had ended, and all of its output was read.
    pub(in crate::process) program: Option<Adopted>,
    /// Its stdout and stderr, or its terminal.
    pub(in crate::process) outputs: Vec<OwnedFd>,
    /// The pipe that is its stdin.
    pub(in crate::process) stdin: Option<OwnedFd>,
}

impl LeftProgram {
    /// What the earlier server wrote of it.
    pub(in crate::process) fn record(&self) -> &ProcessRecord {
        &self.kept.record
    }

    /// Ends it: it has no session any more.
    pub(crate) fn end(self) {
        survival::taking::end(self.program);
    }
}

/// A program that this server has from now on.
pub(super) struct TakenOver {
    pub(super) process: Arc<Process>,
    /// What it is to be watched by; none once it is closed.
    pub(super) watched: Option<Watched>,
}

/// Makes it a program of this server.
///
/// # Errors
/// When it can't be watched, or what is left of it makes no sense.
pub(super) fn take_over(
    left: LeftProgram,
    store: &Arc<dyn Store>,
    news: Arc<News>,
    limits: &Limits,
) -> io::Result<TakenOver> {
    let LeftProgram { kept, mut found, program, outputs, stdin } = left;
    let record = kept.record.clone();
    let pid = i32::try_from(record.pid).ok().and_then(Pid::from_raw);
    let pid =
        program.as_ref().map(|program| program.pid).or(pid).ok_or_else(|| senseless("it has no process"))?;
    let safe = Safe::resume(store, kept, &found, &limits.process);
    let mut state = State::new(phase(&record, &found, pid), limits);
    state.writes.accepted_before(std::mem::take(&mut found.ids));
    (state.terminated, state.timed_out) = (found.terminated, found.timed_out);
    state.kill_at = found.kill_at.map(|at| Instant::now() + until(at));
    state.kept.leaves_names = record.leaves_names;
    state.kept.enforced = record.enforced;
    state.log = OutputLog::restored(limits.process.retained_output_bytes, log_of(&mut found));
    if record.pull_only {
        state.log.release();
    }
    state.safe = Some(Arc::clone(&safe));
    let watched = match program.filter(|_| !found.closed) {
        None => {
            state.input = if record.takes_input { Input::Lost } else { Input::None };
            None
        }
        Some(Adopted { origin, exit, .. }) => {
            let ends = ends(record.tty, outputs, stdin).ok_or_else(|| senseless("it has no output"))?;
            let streams = Streams::register(ends, record.real_terminal, limits, Some(&safe))?;
            state.input = input(&record, &mut found, &streams);
            Some((origin, register(exit, Interest::READABLE)?, streams))
        }
    };
    let process = Process::adopted(&record, news, state);
    let Some((origin, exit, streams)) = watched else { return Ok(TakenOver { process, watched: None }) };
    let reaped = was_reaped(&process, &found, pid, origin);
    if !reaped && found.kill_at.is_none() && (found.terminated || found.timed_out) {
        // The signal may not have gone out.
        process.lock().kill_tree();
    }
    if found.input_lost {
        tracing::warn!(process = %process.id(), "more input was queued than is kept for another server; the rest is lost");
    }
    if record.proxied {
        tracing::warn!(process = %process.id(), "its network ended with the server that it was started by");
    }
    let watched = Watched {
        pid,
        origin,
        exit,
        outputs: streams.outputs,
        timeout: record.timeout.map(until),
        idle_timeout: record.idle_timeout_ms.map(Duration::from_millis),
        chunk_bytes: limits.process.output_chunk_bytes,
        reaped,
        staged: std::mem::take(&mut found.staged).into(),
        safe: Some(safe),
    };
    Ok(TakenOver { process, watched: Some(watched) })
}

fn senseless(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// How long it is until a time of the boot clock.
fn until(boot: u64) -> Duration {
    Duration::from_millis(boot.saturating_sub(boot_ms()))
}

fn phase(record: &ProcessRecord, found: &Found, pid: Pid) -> Phase {
    if found.exit.is_some() {
        return Phase::Ended { pid };
    }
    let runs = Duration::from_millis(boot_ms().saturating_sub(record.started));
    let now = Instant::now();
    Phase::Running { pid, since: now.checked_sub(runs).unwrap_or(now) }
}

fn log_of(found: &mut Found) -> Left {
    let exit = found.exit.clone().map(|(seq, said)| {
        let LoggedExit { code, details, sandbox_denied, .. } = said;
        (seq, Exit { code, details, sandbox_denied })
    });
    let output = std::mem::take(&mut found.output);
    Left {
        output: output
            .into_iter()
            .map(|(seq, stream, bytes)| Chunk { seq, stream, chunk: bytes.into() })
            .collect(),
        totals: found.totals,
        evicted: found.evicted,
        last_seq: found.last_seq,
        exit,
        closed: found.closed,
    }
}

fn ends(tty: bool, outputs: Vec<OwnedFd>, stdin: Option<OwnedFd>) -> Option<Ends> {
    let mut outputs = outputs.into_iter();
    if tty {
        return outputs.next().map(|master| Ends::Terminal { master });
    }
    Some(Ends::Pipes { stdin, stdout: outputs.next()?, stderr: outputs.next()? })
}

/// Its input, with what was accepted and is not written.
fn input(record: &ProcessRecord, found: &mut Found, streams: &Streams) -> Input {
    let Some(stdin) = &streams.stdin else {
        // Nobody reads it any more, or its end was asked for.
        return if record.takes_input && !found.input_ended { Input::Lost } else { Input::None };
    };
    let queued = std::mem::take(&mut found.input);
    if found.terminated {
        stdin.refuse();
    } else {
        stdin.resume(queued, found.input_ended && !record.tty);
    }
    match &streams.terminal {
        Some(terminal) => Input::Terminal(Arc::clone(stdin), Arc::clone(terminal)),
        None if found.input_ended => Input::None,
        None => Input::Pipe(Arc::clone(stdin)),
    }
}

/// Whether the earlier server has reaped the child, or was about to: then the exit is in the log.
fn was_reaped(process: &Arc<Process>, found: &Found, pid: Pid, origin: Origin) -> bool {
    let noted = survival::read_ending(&found.ending);
    if found.exit.is_none() && noted.is_none() {
        return false;
    }
    // What the keeper knows of it says nothing new.
    let _ = reap::try_reap(pid);
    if let (None, Some(ending)) = (&found.exit, noted) {
        let leftovers = orphans::leftovers_of(pid, origin).unwrap_or_default();
        process.record_exit(pid, &ending, leftovers);
    }
    true
}
