//! Memory that young programs share, a small piece for each, so that a program that ends at once costs no memory of its own.

use std::sync::Arc;

use parking_lot::Mutex;

use super::layout::{HEAD, Layout};
use super::memory::Memory;
use super::record::{self, Kind, NurseryRecord};
use super::store::Store;

/// Bytes of a piece: the head, and a few KiB of output. Chosen for speed.
const SLOT_BYTES: usize = 8 << 10;
/// Pieces at most; other programs have memory of their own once they need it. None of it is taken from the system before it is used.
const SLOTS: usize = 4096;

/// The memory, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Nursery(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unmade,
    Made(Arc<Shared>),
    /// It could not be made: every program gets memory of its own.
    Unusable,
}

#[derive(Debug)]
struct Shared {
    memory: Memory,
    key: u64,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    /// Given back.
    free: Vec<usize>,
    /// Those from here on were never used.
    next: usize,
}

/// A piece of the memory, for as long as this lives.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    index: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.slots.lock().free.push(self.index);
    }
}

impl Nursery {
    /// A piece that nobody uses; none where there is none left, or no such memory.
    pub(super) fn take(&self, store: &dyn Store) -> Option<Slot> {
        let mut state = self.0.lock();
        if matches!(*state, State::Unmade) {
            *state = match make(store) {
                Ok(shared) => State::Made(Arc::new(shared)),
                Err(error) => {
                    tracing::warn!(%error, "young programs get memory of their own");
                    State::Unusable
                }
            };
        }
        let State::Made(shared) = &*state else { return None };
        let mut slots = shared.slots.lock();
        let index = slots.free.pop().or_else(|| {
            let next = slots.next;
            slots.next += 1;
            (next < shared.memory.size() / SLOT_BYTES).then_some(next)
        });
        let shared = Arc::clone(shared);
        drop(slots);
        index.map(|index| Slot { shared, index })
    }
}

fn make(store: &dyn Store) -> std::io::Result<Shared> {
    use std::os::fd::AsFd;
    let (memory, fd) = Memory::create(SLOTS * SLOT_BYTES)?;
    let key = store.new_key();
    let about = record::write(Kind::Nursery, &NurseryRecord { slot_bytes: SLOT_BYTES as u64 });
    store.put(key, None, &about, &[fd.as_fd()])?;
    Ok(Shared { memory, key, slots: Mutex::default() })
}

impl Slot {
    /// The number of the entry that holds the memory.
    pub(super) fn key(&self) -> u64 {
        self.shared.key
    }

    /// Where the piece begins, and its size, in bytes.
    pub(super) const fn range(&self) -> (u64, u64) {
        ((self.index * SLOT_BYTES) as u64, SLOT_BYTES as u64)
    }

    /// The piece.
    pub(super) fn memory(&self) -> Option<Memory> {
        self.shared.memory.part(self.index * SLOT_BYTES, SLOT_BYTES)
    }

    /// What is in it.
    pub(super) fn layout() -> Layout {
        Layout::new(SLOT_BYTES - HEAD, 0, 0, 0)
    }
}
