//! One pipe or terminal that a program's output comes from: how it is read, and when.
//!
//! A pipe or terminal wakes us at each write. On a busy processor that keeps the program from its next write, so output
//! comes in pieces of a few KiB, and each piece travels through every hop. So while output floods in, the descriptor
//! leaves the event loop and is read at short intervals, as a network driver polls under load (Linux's NAPI). One read of
//! a terminal gives little, so what a flooding terminal gives is gathered for a moment.

mod gathered;

use std::cell::RefCell;
use std::future::pending;
use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::Stream;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::gathered::Gathered;
use super::queries::Queries;
use super::survival::Read as Chunk;
use super::survival::Safe;
use crate::alarm::Alarm;
use codex_children::descriptor::register;

/// A pipe that keeps filling up gets this capacity (bytes); 64 KiB is the kernel's default.
const LARGE_PIPE: usize = 256 << 10;
/// Full reads that make a pipe large.
const FULL_READS: usize = 8;
/// The most that a terminal gives at once, in bytes (the kernel's N_TTY_BUF_SIZE).
const TERMINAL_BUFFER: usize = 4096;
/// A read of fewer bytes than this has emptied it.
const FEW_OF_A_TERMINAL: usize = 1024;
/// Output that comes within this time of the last may be part of a flood.
const SOON: Duration = Duration::from_millis(1);
/// This many such pieces in a row are a flood, unless input was written meanwhile: a dialogue must not wait.
const FLOOD: u32 = 16;
/// How often a flooded pipe is read. A program that fills the pipe waits no longer than this.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// A flood ends after this many reads in a row that find nothing.
const LOOKS_IN_VAIN: u32 = 3;

/// Where output is read to.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// Into this process's memory.
    Here,
    /// Into memory that outlives it; of the output up to this number nothing has to be kept.
    Safe(&'a Safe, Seq),
}

/// One open end that output comes from.
pub(super) struct Output {
    source: Source,
    /// Which of the program's streams it is.
    pub(super) stream: Stream,
    /// Nothing more comes. The descriptor stays open until the program has exited, which mostly follows at once: closing
    /// it here would only delay the exit.
    pub(super) ended: bool,
    /// What answers the program's questions to its terminal, where no real one is behind.
    pub(super) queries: Option<Queries>,
    gathered: Gathered,
    full_reads: usize,
    pace: Pace,
}

enum Source {
    Awaited(AsyncFd<OwnedFd>),
    Flooded(Flooded),
    /// Only while one of the others is replaced, or once the descriptor can't be watched.
    Gone,
}

impl Source {
    /// What the event loop watches.
    fn awaited(&self) -> Option<&AsyncFd<OwnedFd>> {
        match self {
            Self::Awaited(fd) => Some(fd),
            Self::Flooded(_) | Self::Gone => None,
        }
    }

    fn fd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Flooded(flooded) => Some(&flooded.fd),
            source => source.awaited().map(AsyncFd::get_ref),
        }
    }
}

/// A pipe or terminal that the event loop does not know.
struct Flooded {
    fd: OwnedFd,
    alarm: Alarm,
    /// The last read left something behind.
    more: bool,
    in_vain: u32,
}

/// How output came lately.
struct Pace {
    last: Instant,
    inputs: u64,
    quick: u32,
}

/// When there is something to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// As the event loop knows it.
    Ready,
    /// As the kernel knows it: a terminal hands on what was written only when asked.
    Now,
}

impl Output {
    /// The output of a terminal. `real`: a real terminal shows it, and answers for itself.
    ///
    /// # Errors
    /// When the event loop can't take it.
    pub(super) fn terminal(fd: OwnedFd, real: bool) -> Result<Self> {
        let queries = (!real).then(Queries::default);
        Ok(Self { queries, ..Self::new(fd, Stream::Pty)? })
    }

    /// The read end of a pipe, or a terminal's descriptor that is used for reading only: it can leave the event loop without
    /// the one for input.
    ///
    /// # Errors
    /// When the event loop can't take it.
    pub(super) fn new(fd: OwnedFd, stream: Stream) -> Result<Self> {
        let source = Source::Awaited(register(fd, Interest::READABLE)?);
        let pace = Pace { last: Instant::now(), inputs: 0, quick: 0 };
        let gathered = Gathered::default();
        Ok(Self { source, stream, ended: false, queries: None, gathered, full_reads: 0, pace })
    }

    /// Waits until reading is worth it.
    pub(super) async fn ready(&self) {
        match &self.source {
            Source::Flooded(flooded) if flooded.more => {}
            Source::Flooded(flooded) => flooded.alarm.rings().await,
            // Readiness is kept until a read says "again", so nothing is consumed here.
            Source::Awaited(fd) => drop(fd.readable().await),
            Source::Gone => pending().await,
        }
    }

    /// Reads a chunk of at most `chunk_bytes`.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet. Any other error means the end of the output, as EIO does for a terminal.
    pub(super) fn read(&mut self, chunk_bytes: usize, when: When, place: Place<'_>) -> Result<Chunk> {
        let chunk = match (self.source.awaited(), self.source.fd()) {
            (Some(fd), _) if when == When::Ready => read_ready(fd, self.stream, chunk_bytes, place)?,
            (_, Some(fd)) => read_chunk(fd, self.stream, chunk_bytes, place)?,
            (_, None) => return Err(ErrorKind::BrokenPipe.into()),
        };
        self.grow_pipe(chunk.bytes.len(), chunk_bytes);
        Ok(chunk)
    }

    /// Takes what was read, and returns what goes into the log now. For a flooding terminal that may be nothing; the rest
    /// comes from a later call, or from [`Self::due`] or [`Self::rest`].
    pub(super) fn gather(&mut self, bytes: Bytes, now: Instant) -> Bytes {
        match self.source {
            Source::Flooded(_) if self.stream == Stream::Pty => self.gathered.take(bytes, now),
            _ => self.gathered.with(bytes),
        }
    }

    /// What was gathered and has waited long enough: all of it once the flood is over.
    pub(super) fn due(&mut self, now: Instant) -> Bytes {
        match self.source {
            Source::Flooded(_) if !self.ended => self.gathered.take(Bytes::new(), now),
            _ => self.gathered.end(),
        }
    }

    /// All that was gathered.
    pub(super) fn rest(&mut self) -> Bytes {
        self.gathered.with(Bytes::new())
    }

    /// Fewer wake-ups for a program that writes a lot; the kernel may refuse, and then nothing changes.
    fn grow_pipe(&mut self, read: usize, chunk_bytes: usize) {
        if read < chunk_bytes || self.stream == Stream::Pty {
            return;
        }
        self.full_reads += 1;
        if let (FULL_READS, Some(fd)) = (self.full_reads, self.source.fd()) {
            let _ = rustix::pipe::fcntl_setpipe_size(fd, LARGE_PIPE);
        }
    }

    /// Decides after a turn of reading how the next one is awaited. `read` bytes came, and `more` may be left; `inputs`
    /// counts the writes to the program so far.
    pub(super) fn settle(&mut self, now: Instant, inputs: u64, read: usize, more: bool) {
        let flood = read > 0 && self.pace.is_flood(now, inputs);
        self.source = match std::mem::replace(&mut self.source, Source::Gone) {
            Source::Awaited(fd) if flood && !self.ended => flooded(fd),
            Source::Flooded(flooded) if !self.ended => flooded.settle(read, more),
            source => source,
        };
        self.ended |= matches!(self.source, Source::Gone);
    }
}

/// Gives a pipe to the event loop. A pipe that can't be watched counts as ended; the program gets a broken pipe.
fn awaited(fd: OwnedFd) -> Source {
    match register(fd, Interest::READABLE) {
        Ok(fd) => Source::Awaited(fd),
        Err(error) => {
            tracing::warn!(%error, "a program's output can't be watched any more");
            Source::Gone
        }
    }
}

/// Takes a pipe out of the event loop. Without an alarm, which is one descriptor more, it stays there.
fn flooded(fd: AsyncFd<OwnedFd>) -> Source {
    match Alarm::new() {
        Ok(alarm) => Source::Flooded(Flooded { fd: fd.into_inner(), alarm, more: true, in_vain: 0 }),
        Err(_) => Source::Awaited(fd),
    }
}

impl Flooded {
    fn settle(mut self, read: usize, more: bool) -> Source {
        self.in_vain = if read > 0 { 0 } else { self.in_vain + 1 };
        self.more = more;
        if self.in_vain < LOOKS_IN_VAIN && (more || self.alarm.set(LOOK_EVERY).is_ok()) {
            return Source::Flooded(self);
        }
        // Dropped first: its descriptor may be the only one left for the event loop's watch.
        drop(self.alarm);
        awaited(self.fd)
    }
}

impl Pace {
    fn is_flood(&mut self, now: Instant, inputs: u64) -> bool {
        let quick = now.duration_since(self.last) < SOON && inputs == self.inputs;
        self.quick = if quick { self.quick + 1 } else { 0 };
        self.last = now;
        self.inputs = inputs;
        if self.quick < FLOOD {
            return false;
        }
        self.quick = 0;
        true
    }
}

/// "Again" makes the event loop wait for the next wake-up. A read that emptied the pipe says so at once, and saves a second
/// one: what comes later wakes again (epoll(7), edge-triggered).
fn read_ready(fd: &AsyncFd<OwnedFd>, stream: Stream, chunk_bytes: usize, place: Place<'_>) -> Result<Chunk> {
    let mut chunk = None;
    let result = fd.try_io(Interest::READABLE, |fd| {
        let chunk = chunk.insert(read_chunk(fd, stream, chunk_bytes, place)?);
        if chunk.emptied { Err(Error::from(ErrorKind::WouldBlock)) } else { Ok(()) }
    });
    match chunk {
        Some(chunk) => Ok(chunk),
        None => Err(result.err().unwrap_or_else(|| ErrorKind::WouldBlock.into())),
    }
}

thread_local! {
    /// Small reads are copied out of here, so that an idle process costs no buffer.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads once; a terminal, which gives 4 KiB at a time, until the chunk is full or nothing is left. A large result keeps
/// its buffer; a small one gets memory of its size.
fn read_chunk(
    fd: &OwnedFd,
    stream: Stream,
    chunk_bytes: usize,
    place: Place<'_>,
) -> std::result::Result<Chunk, Errno> {
    if let Place::Safe(safe, free) = place
        && let Some(read) = safe.read(fd, stream, chunk_bytes, free)
    {
        return read;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.reserve_exact(chunk_bytes);
        let mut reads = 0;
        let emptied = loop {
            let wanted = chunk_bytes - scratch.len();
            let spare: &mut [MaybeUninit<u8>] = scratch.spare_capacity_mut();
            let count = match rustix::io::read(fd, spare.get_mut(..wanted).unwrap_or_default()) {
                Ok((filled, _)) => filled.len(),
                // What was read so far comes first; the next read gets the same error.
                Err(error) if reads > 0 => break error == Errno::AGAIN,
                Err(error) => return Err(error),
            };
            reads += 1;
            let filled = scratch.len() + count;
            // SAFETY: the kernel has initialised this many bytes of the spare capacity.
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

#[cfg(test)]
mod tests;
