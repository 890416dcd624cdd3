//! Moves one program's output into its log, reaps it, and keeps its deadlines.

use std::future::pending;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_children::orphans::{self, Origin};
use codex_children::reap;
use codex_exec_protocol::process::Stream;
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

use super::output::{Output, When};
use super::process::Process;
use super::queries::Queries;

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
    let mut reaped = false;
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
                    read_some(&process, output, watched.chunk_bytes, When::Ready);
                }
                tokio::task::coop::consume_budget().await;
            }
            Next::Exit => {
                // What the program wrote comes before its end, and may tell that a sandbox was why.
                for output in watched.outputs.iter_mut().filter(|output| !output.ended) {
                    if process.lock().log.has_room() {
                        read_some(&process, output, watched.chunk_bytes, When::Now);
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
fn read_some(process: &Arc<Process>, output: &mut Output, chunk_bytes: usize, when: When) {
    let (mut reads, mut bytes, mut more) = (0, 0, true);
    while more && reads < READS_IN_A_ROW {
        match output.read(chunk_bytes, when) {
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
                if !tell(process, output.stream, read, answers) {
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
                tell(process, output.stream, rest, Vec::new());
            }
        }
    }
    let (now, inputs) = (Instant::now(), process.lock().inputs);
    output.settle(now, inputs, bytes, more);
    let due = if when == When::Now { output.rest() } else { output.due(now) };
    tell(process, output.stream, due, Vec::new());
}

/// Puts output into the log, and types what a terminal answers. Whether more may be read.
fn tell(process: &Arc<Process>, stream: Stream, read: Bytes, answers: Vec<u8>) -> bool {
    let mut room = true;
    if !read.is_empty() || !answers.is_empty() {
        process.record(|state| {
            if !read.is_empty() {
                state.output(stream, read);
            }
            state.answer(answers);
            room = state.log.has_room();
        });
    }
    room
}

/// Reaps the child if it has ended, and tells what it left behind.
fn try_reap(process: &Arc<Process>, watched: &Watched) -> bool {
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
