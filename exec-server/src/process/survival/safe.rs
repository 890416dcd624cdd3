//! What of one program is kept for the next server, for as long as this lives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use codex_children::orphans::Origin;
use codex_children::reap::Ending;
use codex_children::streams::Ends;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{LoggedExit, Stream};
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use rustix::process::Pid;

use super::above::Survival;
use super::ending;
use super::journal::{INPUT_PIECE, Journal, Read};
use super::layout::{self, ID, Layout, flag};
use super::memory::Memory;
use super::nursery::Slot;
use super::record::{self, Kind, ProcessRecord};
use super::replay::Found;
use super::room::Room;
use super::store::Store;
use crate::limits::ProcessLimits;

/// An entry of the store, which is forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    store: Arc<dyn Store>,
    key: u64,
    urgent: bool,
}

impl Held {
    /// Holds an entry that is there.
    pub(crate) fn new(store: &Arc<dyn Store>, key: u64) -> Self {
        Self { store: Arc::clone(store), key, urgent: false }
    }

    fn put(store: &Arc<dyn Store>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<Self> {
        let key = store.new_key();
        store.put(key, None, bytes, &[fd])?;
        Ok(Self::new(store, key))
    }
}

impl Held {
    /// The number of the entry.
    pub(crate) const fn key(&self) -> u64 {
        self.key
    }

    /// Forgets it at once: somebody waits for its descriptor to be closed.
    fn now(mut self) {
        self.urgent = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.urgent {
            true => self.store.forget_now(self.key),
            false => self.store.forget(self.key),
        }
    }
}

/// A program that the next server goes on with, unless this is dropped first.
pub(in crate::process) struct Safe {
    journal: Mutex<Journal>,
    process: Held,
    /// The program's record, as long as its descriptors are kept.
    record: Mutex<Option<ProcessRecord>>,
    stdin: Mutex<Option<Held>>,
    /// The memory that the log has moved into.
    _memory: Arc<OnceLock<Held>>,
    _slot: Option<Slot>,
    /// The memory of an earlier server's young programs.
    _nursery: Option<Arc<Held>>,
}

impl std::fmt::Debug for Safe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Safe").field("process", &self.process).finish_non_exhaustive()
    }
}

/// What a program's log needs when it is large: as much as the log in memory holds, its pieces, and what is queued beside.
fn layout_of(limits: &ProcessLimits) -> Layout {
    /// The most pieces that a log has.
    const PIECES: usize = 16 << 10;
    /// The most that a terminal's output waits for more, and is held back of it: some times that.
    const GATHERED: usize = 128 << 10;
    let chunk = limits.output_chunk_bytes + layout::RECORD + 8;
    let ring = 2 * limits.retained_output_bytes + PIECES * (layout::RECORD + 8) + 6 * chunk;
    let input = limits.queued_write_bytes + (1 << 20);
    Layout::new(ring, limits.remembered_write_ids * ID, input, 2 * limits.output_chunk_bytes + GATHERED)
}

/// Where a log moves when it gets large.
struct Larger {
    store: Arc<dyn Store>,
    layout: Layout,
    made: Arc<OnceLock<Held>>,
}

impl Room for Larger {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn hand_over(&self, memory: BorrowedFd<'_>) -> io::Result<u64> {
        let held = Held::put(&self.store, &record::write(Kind::Memory, &()), memory)?;
        let key = held.key;
        let _ = self.made.set(held);
        Ok(key)
    }
}

/// What was kept of a program by an earlier server.
#[derive(Debug)]
pub(in crate::process) struct Kept {
    pub(in crate::process) key: u64,
    pub(in crate::process) record: ProcessRecord,
    pub(in crate::process) stdin: Option<u64>,
    /// The memory that its log has moved into.
    pub(in crate::process) moved: Option<u64>,
    /// The memory of young programs, if its log is in there.
    pub(in crate::process) nursery: Option<Arc<Held>>,
    pub(super) memory: Memory,
    pub(super) layout: Layout,
}

impl Safe {
    /// Keeps a program from now on. `None` where nothing is kept, or the keeper can't take it: then it ends with this server.
    pub(in crate::process) fn begin(
        survival: &Survival,
        mut about: ProcessRecord,
        program: (Pid, Origin),
        ends: &Ends,
        limits: &ProcessLimits,
    ) -> Option<Arc<Self>> {
        let shared = survival.0.as_ref()?;
        let store = &shared.store;
        let begin = || -> io::Result<Arc<Self>> {
            about.pid = u32::try_from(program.0.as_raw_nonzero().get()).unwrap_or(0);
            let made = Arc::new(OnceLock::new());
            let larger =
                Larger { store: Arc::clone(store), layout: layout_of(limits), made: Arc::clone(&made) };
            let slot = shared.nursery.take(&**store);
            let small = slot.as_ref().and_then(|slot| Some((slot, slot.memory()?)));
            let journal = match small {
                Some((slot, memory)) => {
                    about.memory = Some(slot.key());
                    (about.memory_from, about.memory_size) = slot.range();
                    Journal::begin(memory, Slot::layout(), Some(Box::new(larger)))
                }
                None => {
                    let (memory, fd) = Memory::create(larger.layout.size())?;
                    about.memory = Some(larger.hand_over(fd.as_fd())?);
                    about.memory_size = memory.size() as u64;
                    Journal::begin(memory, larger.layout, None)
                }
            };
            let (stdin, outputs) = match ends {
                Ends::Terminal { master } => (None, vec![master.as_fd()]),
                Ends::Pipes { stdin, stdout, stderr } => {
                    (stdin.as_ref().map(AsFd::as_fd), vec![stdout.as_fd(), stderr.as_fd()])
                }
            };
            let stdin = stdin.map(|fd| Held::put(store, &record::write(Kind::Stdin, &()), fd)).transpose()?;
            about.stdin = stdin.as_ref().map(|held| held.key);
            let process = Held::new(store, store.new_key());
            store.put(process.key, Some(program), &record::write(Kind::Process, &about), &outputs)?;
            Ok(Arc::new(Self {
                journal: Mutex::new(journal),
                process,
                record: Mutex::new(Some(about)),
                stdin: Mutex::new(stdin),
                _memory: made,
                _slot: slot,
                _nursery: None,
            }))
        };
        begin().inspect_err(|error| tracing::warn!(%error, "a program ends with this server")).ok()
    }

    /// Goes on keeping a program that an earlier server has kept.
    pub(in crate::process) fn resume(
        store: &Arc<dyn Store>,
        kept: Kept,
        found: &Found,
        limits: &ProcessLimits,
    ) -> Arc<Self> {
        let made = Arc::new(OnceLock::new());
        let is_small = kept.moved.is_none() && kept.nursery.is_some();
        if let Some(key) = kept.moved {
            let _ = made.set(Held::new(store, key));
        }
        let larger = Larger { store: Arc::clone(store), layout: layout_of(limits), made: Arc::clone(&made) };
        let room: Option<Box<dyn Room>> = if is_small { Some(Box::new(larger)) } else { None };
        Arc::new(Self {
            journal: Mutex::new(Journal::resume(kept.memory, kept.layout, found, room)),
            process: Held::new(store, kept.key),
            record: Mutex::new(Some(kept.record)),
            stdin: Mutex::new(kept.stdin.map(|key| Held::new(store, key))),
            _memory: made,
            _slot: None,
            _nursery: kept.nursery,
        })
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock()
    }

    /// Reads a chunk into the log, and of a terminal into what comes before it. `free`: up to there nothing has to be kept.
    /// `None` where nothing is kept any more.
    pub(in crate::process) fn read(
        &self,
        fd: &OwnedFd,
        stream: Stream,
        chunk_bytes: usize,
        free: Seq,
    ) -> Option<Result<Read, Errno>> {
        let mut journal = self.journal();
        match stream {
            Stream::Pty => journal.read_terminal(fd, chunk_bytes),
            Stream::Stdout | Stream::Stderr => journal.read_pipe(fd, stream, chunk_bytes, free),
        }
    }

    /// A terminal's bytes have come to this output; the last `held_back` of them are not part of it.
    pub(in crate::process) fn terminal_output(&self, bytes: &[u8], held_back: usize, free: Seq) {
        self.journal().append_terminal(bytes, held_back, free);
    }

    /// The child has ended thus, and is reaped next.
    pub(in crate::process) fn ending(&self, how: &Ending) {
        self.journal().ending(&ending::write(how));
    }

    /// The exit has this number.
    pub(in crate::process) fn exited(&self, seq: Seq, exit: &LoggedExit) {
        self.journal().exited(seq, &serde_json::to_vec(exit).unwrap_or_default());
    }

    /// The close has this number. Its descriptors are kept no longer.
    pub(in crate::process) fn closed(&self, seq: Seq) {
        self.journal().closed(seq);
        self.close_input();
        let Some(about) = self.record.lock().take() else { return };
        let bytes = record::write(Kind::Process, &about);
        if let Err(error) = self.process.store.put(self.process.key, None, &bytes, &[]) {
            tracing::warn!(%error, "an ended program's output can't be kept for another server");
        }
    }

    /// Somebody, or a deadline, asked for the end; SIGKILL follows at this time of the boot clock, or has gone out.
    pub(in crate::process) fn ends(&self, timed_out: bool, kill_at: Option<u64>) {
        let journal = self.journal();
        journal.flag(if timed_out { flag::TIMED_OUT } else { flag::TERMINATED }, true);
        journal.kill_at(kill_at.unwrap_or(0));
    }

    // ---- input

    /// A write was accepted, and is to be written.
    pub(in crate::process) fn accept(&self, id: Option<&str>, bytes: &[u8]) {
        self.journal().accept(id, bytes);
    }

    /// A write was accepted of which nothing is to be written.
    pub(in crate::process) fn remember(&self, id: &str) {
        self.journal().accept(Some(id), b"");
    }

    /// Writes input in pieces that the kernel takes whole or not at all, each noted before: a server that is killed meanwhile has
    /// written what it says.
    pub(in crate::process) fn write(&self, fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        let piece = bytes.get(..INPUT_PIECE).unwrap_or(bytes);
        let mut journal = self.journal();
        journal.writes(piece.len());
        let written = rustix::io::write(fd, piece);
        journal.wrote_less(piece.len() - written.unwrap_or(0));
        written
    }

    /// The input is to end behind what is queued.
    pub(in crate::process) fn end_input(&self) {
        self.journal().flag(flag::INPUT_ENDED, true);
    }

    /// The input is closed; what was queued is lost.
    pub(in crate::process) fn close_input(&self) {
        if let Some(held) = self.stdin.lock().take() {
            held.now();
        }
        self.journal().input_is_empty();
    }
}
