//! Moves one program's output into its log, reaps it, and keeps its deadlines.

use std::cell::RefCell;
use std::future::pending;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_exec_protocol::process::Stream;
use rustix::io::Errno;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::orphans::{self, Origin};
use super::reap;
use super::record::Process;

/// Reads in a row before other work gets its turn.
const READS_IN_A_ROW: usize = 16;
/// A pipe that keeps filling up gets this capacity (bytes); 64 KiB is the kernel's default.
const LARGE_PIPE: usize = 256 << 10;
/// Full reads in a row that make a pipe large.
const FULL_READS: usize = 8;
/// A terminal gives at most so many bytes at once (the kernel's N_TTY_BUF_SIZE).
const TERMINAL_BUFFER: usize = 4096;
/// A read of fewer bytes than this has emptied it.
const FEW_OF_A_TERMINAL: usize = 1024;

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

/// One open end that output comes from.
pub(super) struct Output {
    pub(super) fd: Arc<AsyncFd<OwnedFd>>,
    pub(super) stream: Stream,
    pub(super) full_reads: usize,
    /// Nothing more comes. The descriptor is kept until the program has exited too: most often that follows at once, and
    /// a close now would only hold up its end.
    pub(super) ended: bool,
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
        // Readiness is kept until a read says "again", so nothing is consumed here.
        Some(output) if has_room && !output.ended => drop(output.fd.readable().await),
        _ => pending().await,
    }
}

/// When there is something to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// As the event loop knows it.
    Ready,
    /// As the kernel knows it: a terminal hands on what was written only when asked.
    Now,
}

/// Reads while there is something, room for it and a turn left.
fn read_some(process: &Arc<Process>, output: &mut Output, chunk_bytes: usize, when: When) {
    let mut reads = 0;
    while reads < READS_IN_A_ROW {
        let mut chunk = None;
        // "Again" makes the event loop wait for the next wake-up. A read that emptied the pipe says so at once, and
        // saves a second one: what comes later wakes again (epoll(7), edge-triggered).
        let mut read = |fd: &OwnedFd| {
            let chunk = chunk.insert(read_chunk(fd, output.stream, chunk_bytes)?);
            if chunk.emptied { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let result = match when {
            When::Ready => output.fd.try_io(Interest::READABLE, read),
            When::Now => read(output.fd.get_ref()),
        };
        match (chunk, result) {
            (Some(chunk), result) if !chunk.bytes.is_empty() => {
                reads += chunk.reads;
                output.grow_pipe(chunk.bytes.len(), chunk_bytes);
                let stream = output.stream;
                let mut room = true;
                process.record(|state| {
                    state.output(stream, chunk.bytes);
                    room = state.log.has_room();
                });
                if !room || result.is_err() {
                    return;
                }
            }
            (_, Err(error)) if error.kind() == ErrorKind::WouldBlock => return,
            (_, Err(error)) if error.kind() == ErrorKind::Interrupted => {}
            // The end; EIO is how a terminal says it.
            _ => {
                output.ended = true;
                return;
            }
        }
    }
}

impl Output {
    /// Fewer wake-ups for a program that writes a lot; the kernel may refuse, and then nothing changes.
    fn grow_pipe(&mut self, read: usize, chunk_bytes: usize) {
        if read < chunk_bytes || self.stream == Stream::Pty {
            return;
        }
        self.full_reads += 1;
        if self.full_reads == FULL_READS {
            let _ = rustix::pipe::fcntl_setpipe_size(self.fd.get_ref(), LARGE_PIPE);
        }
    }
}

thread_local! {
    /// Small reads are copied out of here, so that an idle process costs no buffer.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What was read at once.
struct Chunk {
    /// None of them at the end.
    bytes: Bytes,
    /// By so many reads.
    reads: usize,
    /// Nothing was left behind them.
    emptied: bool,
}

/// Reads once; a terminal, which gives 4 KiB at a time, until the chunk is full or nothing is left. A large result keeps
/// its buffer; a small one gets memory of its size.
fn read_chunk(fd: &OwnedFd, stream: Stream, chunk_bytes: usize) -> Result<Chunk, Errno> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.reserve_exact(chunk_bytes);
        let mut reads = 0;
        let emptied = loop {
            let wanted = chunk_bytes - scratch.len();
            let spare: &mut [MaybeUninit<u8>] = scratch.spare_capacity_mut();
            let count = match rustix::io::read(fd, spare.get_mut(..wanted).unwrap_or_default()) {
                Ok((filled, _)) => filled.len(),
                // What there is comes first, and then the same again.
                Err(error) if reads > 0 => break error == Errno::AGAIN,
                Err(error) => return Err(error),
            };
            reads += 1;
            let filled = scratch.len() + count;
            // SAFETY: the kernel has initialised so many bytes of the spare capacity.
            #[allow(unsafe_code)]
            unsafe {
                scratch.set_len(filled);
            }
            if stream != Stream::Pty {
                break count > 0 && count < wanted;
            }
            if count == 0 || count < FEW_OF_A_TERMINAL.min(wanted) {
                break count > 0;
            }
            if chunk_bytes - filled < TERMINAL_BUFFER {
                break false;
            }
        };
        let bytes = match scratch.len() * 4 < chunk_bytes * 3 {
            true => Bytes::copy_from_slice(scratch),
            false => Bytes::from(std::mem::take(scratch)),
        };
        Ok(Chunk { bytes, reads, emptied })
    })
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
