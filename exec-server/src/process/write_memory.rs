//! Remembers which writes were accepted, so that a retry is harmless (8.4).

use std::collections::{HashSet, VecDeque};

/// The newest accepted `writeId`s of one process.
#[derive(Debug)]
pub(super) struct WriteMemory {
    capacity: usize,
    order: VecDeque<Box<str>>,
    known: HashSet<Box<str>>,
}

impl WriteMemory {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, order: VecDeque::new(), known: HashSet::new() }
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    /// Remembers an id; the oldest goes when there are too many.
    pub(super) fn remember(&mut self, id: &str) {
        if self.order.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        if self.known.insert(id.into()) {
            self.order.push_back(id.into());
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
