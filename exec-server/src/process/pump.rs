//! Moves one program's output into its log, reaps it, and keeps its deadlines.

use std::future::pending;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_children::orphans::{self, Origin};
use codex_children::reap;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::Stream;
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

use super::output::{Output, Place, When};
use super::process::Process;
use super::queries::Queries;
use super::survival::Safe;

/// Reads in a row before other work gets its turn.
const READS_IN_A_ROW: usize = 16;

/// What a started program is watched by.
pub(super) struct Watched {
    pub(super) pid: Pid,
    pub(super) origin: Origin,
    pub(super) exit: AsyncFd<OwnedFd>,
    pub(super) outputs: Vec<Output>,
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) chunk_bytes: usize,
    /// The child was reaped before.
    pub(super) reaped: bool,
    /// What an earlier server has read of its terminal, and not told.
    pub(super) staged: Bytes,
    /// Keeps it all for the next server.
    pub(super) safe: Option<Arc<Safe>>,
}

enum Next {
    Readable(usize),
    Exit,
    Look,
    Deadline,
}

/// Runs until the program has exited and its output is at its end.
pub(super) async fn run(process: Arc<Process>, mut watched: Watched) {
    let started = Instant::now();
    let mut last_output = started;
    let mut reaped = watched.reaped;
    tell_staged(&process, &mut watched);
    while !reaped || watched.outputs.iter().any(|output| !output.ended) {
        let (has_room, kill_at) = {
            let state = process.lock();
            (state.log.has_room(), state.kill_at)
        };
        let deadline = if reaped {
            None
        } else {
            [
                watched.timeout.map(|timeout| started + timeout),
                // A program that we keep waiting is not idle.
                watched.idle_timeout.filter(|_| has_room).map(|idle| last_output + idle),
                kill_at,
            ]
            .into_iter()
            .flatten()
            .min()
        };
        let next = tokio::select! {
            () = readable(watched.outputs.first(), has_room) => Next::Readable(0),
            () = readable(watched.outputs.get(1), has_room) => Next::Readable(1),
            // Not biased: a flood must hide neither the other stream nor the end.
            _ = watched.exit.readable(), if !reaped => Next::Exit,
            () = process.pump.notified() => Next::Look,
            () = until(deadline) => Next::Deadline,
        };
        match next {
            Next::Readable(index) => {
                last_output = Instant::now();
                if let Some(output) = watched.outputs.get_mut(index) {
                    read_some(&process, output, watched.chunk_bytes, When::Ready, watched.safe.as_deref());
                }
                tokio::task::coop::consume_budget().await;
            }
            Next::Exit => {
                // What the program wrote comes before its end, and may tell that a sandbox was why.
                for output in watched.outputs.iter_mut().filter(|output| !output.ended) {
                    if process.lock().log.has_room() {
                        read_some(&process, output, watched.chunk_bytes, When::Now, watched.safe.as_deref());
                    }
                }
                reaped = try_reap(&process, &watched);
            }
            Next::Look => {
                if !has_room {
                    last_output = Instant::now();
                }
            }
            Next::Deadline => {
                let mut state = process.lock();
                state.timed_out |= state.kill_at.take().is_none();
                if let Some(safe) = watched.safe.as_ref().filter(|_| state.timed_out) {
                    safe.ends(true, None);
                }
                state.kill_tree();
                drop(state);
                watched.timeout = None;
                watched.idle_timeout = None;
            }
        }
    }
    process.record_close();
    // The news goes out before the descriptors are let go.
    tokio::task::yield_now().await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

async fn readable(output: Option<&Output>, has_room: bool) {
    match output {
        Some(output) if has_room && !output.ended => output.ready().await,
        _ => pending().await,
    }
}

/// Reads while there is something, room for it and a turn left.
fn read_some(
    process: &Arc<Process>,
    output: &mut Output,
    chunk_bytes: usize,
    when: When,
    safe: Option<&Safe>,
) {
    let (mut reads, mut bytes, mut more) = (0, 0, true);
    let mut free = Seq::NONE;
    if safe.is_some() {
        free = process.lock().log.before_oldest();
    }
    while more && reads < READS_IN_A_ROW {
        let place = safe.map_or(Place::Here, |safe| Place::Safe(safe, free));
        match output.read(chunk_bytes, when, place) {
            Ok(chunk) if !chunk.bytes.is_empty() => {
                reads += chunk.reads;
                bytes += chunk.bytes.len();
                // At a program's end another read tells whether somebody else holds the pipe.
                more = !chunk.emptied || when == When::Now;
                let (read, answers) = match &mut output.queries {
                    None => (chunk.bytes, Vec::new()),
                    Some(queries) => queries.take(chunk.bytes, || process.terminal_size()),
                };
                let read = output.gather(read, Instant::now());
                let told = tell(process, output, read, answers, safe);
                free = told.free;
                if !told.room {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => more = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The end; EIO is how a terminal says it.
            _ => {
                output.ended = true;
                more = false;
                let rest = output.queries.as_mut().map(Queries::rest).unwrap_or_default();
                let rest = output.gather(rest, Instant::now());
                tell(process, output, rest, Vec::new(), safe);
            }
        }
    }
    let (now, inputs) = (Instant::now(), process.lock().inputs);
    output.settle(now, inputs, bytes, more);
    let due = if when == When::Now { output.rest() } else { output.due(now) };
    tell(process, output, due, Vec::new(), safe);
}

/// Tells what an earlier server has read of a terminal and not told.
fn tell_staged(process: &Arc<Process>, watched: &mut Watched) {
    let staged = std::mem::take(&mut watched.staged);
    let Some(output) = watched.outputs.first_mut().filter(|_| !staged.is_empty()) else { return };
    let (read, answers) = match &mut output.queries {
        None => (staged, Vec::new()),
        Some(queries) => queries.take(staged, || process.terminal_size()),
    };
    tell(process, output, read, answers, watched.safe.as_deref());
}

/// What became of output.
struct Told {
    /// More may be read.
    room: bool,
    /// Up to this number nothing has to be kept.
    free: Seq,
}

/// Puts output into the log, and types what a terminal answers.
fn tell(process: &Arc<Process>, output: &Output, read: Bytes, answers: Vec<u8>, safe: Option<&Safe>) -> Told {
    let mut told = Told { room: true, free: Seq::NONE };
    if read.is_empty() && answers.is_empty() {
        return told;
    }
    let stream = output.stream;
    if let Some(safe) = safe.filter(|_| stream == Stream::Pty && !read.is_empty()) {
        let held_back = output.queries.as_ref().map_or(0, Queries::held_back);
        safe.terminal_output(&read, held_back, process.lock().log.before_oldest());
    }
    process.record(|state| {
        if !read.is_empty() {
            state.output(stream, read);
        }
        state.answer(answers);
        told = Told { room: state.log.has_room(), free: state.log.before_oldest() };
    });
    told
}

/// Reaps the child if it has ended, and tells what it left behind.
fn try_reap(process: &Arc<Process>, watched: &Watched) -> bool {
    if let Some(safe) = &watched.safe {
        // Once it is reaped nobody else can learn how it ended, so that is noted first.
        match reap::peek(watched.pid) {
            Ok(Some(ending)) => safe.ending(&ending),
            Ok(None) => return false,
            Err(_) => {}
        }
    }
    match reap::try_reap(watched.pid) {
        Ok(None) => false,
        Ok(Some(ending)) => {
            let leftovers = orphans::leftovers_of(watched.pid, watched.origin).unwrap_or_else(|error| {
                tracing::warn!(pid = watched.pid.as_raw_nonzero().get(), %error, "can't tell what a program left behind");
                Vec::new()
            });
            process.record_exit(watched.pid, &ending, leftovers);
            true
        }
        Err(error) => {
            // Somebody else waited for our child: it has ended, but how is not to be known.
            tracing::warn!(pid = watched.pid.as_raw_nonzero().get(), %error, "a program's end was taken by somebody else");
            process.record_exit(watched.pid, &reap::Ending::unknown(), Vec::new());
            true
        }
    }
}
