//! Remembers which writes were accepted, so that a retry is harmless (8.4).

use std::collections::{HashSet, VecDeque};

use super::survival;

/// The newest accepted `writeId`s of one process. Most processes have none, and then it takes no memory.
#[derive(Debug)]
pub(super) struct WriteMemory {
    capacity: usize,
    ids: Option<Box<Ids>>,
}

#[derive(Debug, Default)]
struct Ids {
    order: VecDeque<Box<str>>,
    known: HashSet<Box<str>>,
    /// Hashes of those that an earlier server accepted.
    earlier: HashSet<[u8; 16]>,
}

impl WriteMemory {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, ids: None }
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.ids.as_ref().is_some_and(|ids| {
            ids.known.contains(id) || (!ids.earlier.is_empty() && ids.earlier.contains(&survival::hash(id)))
        })
    }

    /// What an earlier server accepted, by its hashes.
    pub(super) fn accepted_before(&mut self, hashes: Vec<[u8; 16]>) {
        if !hashes.is_empty() {
            self.ids.get_or_insert_default().earlier.extend(hashes);
        }
    }

    /// Remembers an id; the oldest goes when there are too many.
    pub(super) fn remember(&mut self, id: &str) {
        let ids = self.ids.get_or_insert_default();
        if ids.order.len() >= self.capacity
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.known.remove(&oldest);
        }
        if ids.known.insert(id.into()) {
            ids.order.push_back(id.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_id_is_forgotten_first() {
        let mut memory = WriteMemory::new(2);
        for id in ["a", "b", "c"] {
            memory.remember(id);
        }
        assert!(!memory.knows("a") && memory.knows("b") && memory.knows("c"));
    }
}
