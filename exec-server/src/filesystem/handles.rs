//! Open file handles of one connection: `fs/open`, `fs/readBlock`, `fs/writeBlock`, `fs/close` (10.10).
//!
//! The table's calls ([`Handles::reserve`], [`Handles::claim`], [`Handles::close`]) never wait, so that a connection can
//! make them in the order of its requests; the work with the file is then done on a worker thread.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, pread, pwrite};

use super::close_later::close_later;
use super::content::and;
use super::error::{out_of_memory, rpc_error};
use crate::Limits;
use crate::protocol::filesystem::{CloseParams, OpenParams, OpenResult, ReadBlockParams, WriteBlockParams};
use crate::protocol::{Base64Bytes, Block, RpcError, encode::Empty};

type Table = Arc<Mutex<HashMap<String, Arc<Slot>>>>;

/// One connection's open files. Dropping it closes them.
pub(crate) struct Handles {
    table: Table,
    /// How many handles may be open at once.
    capacity: usize,
    id_bytes: usize,
    block_bytes: u64,
}

/// An id's place in the table, taken before its file is open.
struct Slot {
    /// As it was named; none that can be opened if it is another machine's.
    path: Option<PathBuf>,
    state: Mutex<State>,
    opened: Condvar,
}

enum State {
    Opening,
    Open(Arc<OwnedFd>),
    Failed,
}

/// An id taken for a file that is still to be opened. Dropped unopened, it frees the id.
pub(crate) struct Reservation {
    table: Table,
    id: String,
    slot: Arc<Slot>,
}

/// A handle found in the table, for one block's work.
pub(crate) struct Claim {
    table: Table,
    slot: Arc<Slot>,
    block_bytes: u64,
}

impl Handles {
    /// An empty table with the bounds of 10.10.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            table: Table::default(),
            capacity: limits.files.file_handles,
            id_bytes: limits.files.handle_id_bytes,
            block_bytes: limits.files.block_bytes,
        }
    }

    /// Takes the id, so that requests behind this one find it. Never waits.
    ///
    /// # Errors
    /// `-32600` for an id that is too long or in use, and for a handle too many.
    pub(crate) fn reserve(&self, params: &OpenParams) -> Result<Reservation, RpcError> {
        let id = &params.handle_id;
        if id.len() > self.id_bytes {
            return Err(RpcError::invalid_request(format!(
                "file handle ID must not exceed {} bytes",
                self.id_bytes
            )));
        }
        let mut table = self.table.lock();
        let full = table.len() >= self.capacity;
        match table.entry(id.clone()) {
            Entry::Occupied(_) => {
                Err(RpcError::invalid_request(format!("file handle `{id}` already exists")))
            }
            Entry::Vacant(_) if full => Err(RpcError::invalid_request(format!(
                "at most {} file handles may be open per connection; close one first",
                self.capacity
            ))),
            Entry::Vacant(free) => {
                let path = params.path.local().ok().map(Path::to_owned);
                let state = Mutex::new(State::Opening);
                let slot = Arc::new(Slot { path, state, opened: Condvar::new() });
                free.insert(Arc::clone(&slot));
                Ok(Reservation { table: Arc::clone(&self.table), id: id.clone(), slot })
            }
        }
    }

    /// Finds a handle for one block's work. Never waits.
    ///
    /// # Errors
    /// `-32004` for an unknown id.
    pub(crate) fn claim(&self, id: &str) -> Result<Claim, RpcError> {
        let slot = self.table.lock().get(id).map(Arc::clone).ok_or_else(|| unknown(id))?;
        Ok(Claim { table: Arc::clone(&self.table), slot, block_bytes: self.block_bytes })
    }

    /// Forgets a handle, also an unknown one. Never waits: the file is closed on a worker thread, after the blocks that
    /// are still in work.
    pub(crate) fn close(&self, params: &CloseParams) -> Empty {
        let slot = self.table.lock().remove(&params.handle_id);
        if let Some(slot) = slot {
            close_later(slot);
        }
        Empty {}
    }

    /// How many ids are taken.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.lock().len()
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut *self.table.lock());
        if !slots.is_empty() {
            close_later(slots);
        }
    }
}

impl Reservation {
    /// Takes the file, open.
    pub(crate) fn settle(self, file: OwnedFd) -> OpenResult {
        self.slot.settle(State::Open(Arc::new(file)));
        OpenResult { handle_id: self.id.clone() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.slot.settle(State::Failed) {
            forget(&self.table, &self.id, &self.slot);
        }
    }
}

impl Claim {
    /// The file, as it was named when the handle was opened.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.slot.path.as_deref()
    }

    /// Reads `len` bytes, fewer at the end of the file. Waits for the disk, and for the file to be open.
    ///
    /// # Errors
    /// `-32600` for a length out of bounds; the system's otherwise, which also closes the handle.
    pub(crate) fn read_block(&self, params: &ReadBlockParams) -> Result<Block, RpcError> {
        check_read_length(params.len, self.block_bytes)?;
        let file = self.slot.file().ok_or_else(|| unknown(&params.handle_id))?;
        let result = read_at(&file, params.offset, params.len);
        if result.is_err() {
            forget(&self.table, &params.handle_id, &self.slot);
        }
        result
    }

    /// Writes all bytes at the offset. Waits for the disk, and for the file to be open.
    ///
    /// # Errors
    /// `-32600` for a length out of bounds; the system's otherwise.
    pub(crate) fn write_block(&self, params: &WriteBlockParams) -> Result<Empty, RpcError> {
        check_write_length(params, self.block_bytes)?;
        let file = self.slot.file().ok_or_else(|| unknown(&params.handle_id))?;
        write_at(&file, params.offset, &params.chunk.0)?;
        Ok(Empty {})
    }
}

impl Slot {
    /// Leaves `Opening`; false when it had been left before.
    fn settle(&self, state: State) -> bool {
        let mut now = self.state.lock();
        if !matches!(*now, State::Opening) {
            return false;
        }
        *now = state;
        self.opened.notify_all();
        true
    }

    /// The file, as soon as it is open; none when it could not be opened.
    fn file(&self) -> Option<Arc<OwnedFd>> {
        let mut now = self.state.lock();
        loop {
            match &*now {
                State::Opening => self.opened.wait(&mut now),
                State::Open(file) => return Some(Arc::clone(file)),
                State::Failed => return None,
            }
        }
    }
}

/// Takes the id out of the table, unless somebody else has it by now.
fn forget(table: &Table, id: &str, slot: &Arc<Slot>) {
    let mut table = table.lock();
    if table.get(id).is_some_and(|held| Arc::ptr_eq(held, slot)) {
        table.remove(id);
    }
}

fn unknown(id: &str) -> RpcError {
    RpcError::not_found(format!("unknown file handle `{}`", id.chars().take(64).collect::<String>()))
}

fn check_read_length(len: u64, limit: u64) -> Result<(), RpcError> {
    check_length("read", len, limit)
}

fn check_write_length(params: &WriteBlockParams, limit: u64) -> Result<(), RpcError> {
    check_length("write", params.chunk.0.len() as u64, limit)
}

fn check_length(what: &str, len: u64, limit: u64) -> Result<(), RpcError> {
    if (1..=limit).contains(&len) {
        return Ok(());
    }
    Err(RpcError::invalid_request(format!(
        "file {what} block length must be between 1 and {limit}, not {len}"
    )))
}

/// Reads `len` bytes from `offset` on, fewer at the end of the file. Blocks.
pub(super) fn read_at(file: &OwnedFd, offset: u64, len: u64) -> Result<Block, RpcError> {
    let wanted = usize::try_from(len).map_err(|_| out_of_memory(len))?;
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(wanted).map_err(|_| out_of_memory(len))?;
    while chunk.len() < wanted {
        let at = offset.saturating_add(chunk.len() as u64);
        match pread(file, spare_capacity(&mut chunk), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(rpc_error(error)),
        }
    }
    // The allocator may have given more room than asked for.
    chunk.truncate(wanted);
    let eof = chunk.len() < wanted;
    Ok(Block { chunk: Base64Bytes(chunk), eof })
}

fn write_at(file: &OwnedFd, offset: u64, bytes: &[u8]) -> Result<(), RpcError> {
    let mut written = 0;
    while written < bytes.len() {
        let error = match pwrite(file, &bytes[written..], offset.saturating_add(written as u64)) {
            Ok(0) => RpcError::internal("the file takes no more bytes"),
            Ok(put) => {
                written += put;
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(error) => rpc_error(error),
        };
        // How large the file was to become was never said, so no room could be made sure of beforehand.
        let left = format!("the file holds the first {written} of this block's {} bytes", bytes.len());
        return Err(and(error, &left));
    }
    Ok(())
}
