//! A program's input as its log knows it: what was accepted, and what is written.

use super::{Journal, place_in};
use crate::process::survival::layout::{self, flag, hash, set, word};

impl Journal {
    /// A write was accepted, which is remembered by its id, and is to be written.
    pub(in crate::process::survival) fn accept(&mut self, id: Option<&str>, bytes: &[u8]) {
        if (self.layout.input_size == 0 && !self.grow()) || self.given_up {
            return;
        }
        if self.input_begin >= self.input_end {
            self.flag(flag::INPUT_UNKNOWN, false);
        }
        let queued = usize::try_from(self.input_end - self.input_begin).unwrap_or(usize::MAX);
        if queued.saturating_add(bytes.len()) > self.layout.input_size {
            self.flag(flag::INPUT_UNKNOWN, true);
        } else {
            let at = place_in(self.input_end, self.layout.input_size);
            let (first, second) = bytes.split_at(bytes.len().min(self.layout.input_size - at));
            self.memory.put(self.layout.input + at, first);
            self.memory.put(self.layout.input, second);
        }
        self.input_end += bytes.len() as u64;
        set(&self.memory, word::INPUT_END, self.input_end);
        if let Some(id) = id {
            self.remember(id);
        }
    }

    /// Remembers the id of a write that was accepted.
    pub(in crate::process::survival) fn remember(&mut self, id: &str) {
        let slots = self.layout.ids_size / layout::ID;
        if slots == 0 || self.given_up {
            return;
        }
        let at = place_in(self.ids, slots);
        self.memory.put(self.layout.ids + at * layout::ID, &hash(id));
        self.ids += 1;
        set(&self.memory, word::IDS_END, self.ids);
    }

    /// So many bytes of the input are about to be written.
    pub(in crate::process::survival) fn writes(&mut self, count: usize) {
        self.input_begin += count as u64;
        set(&self.memory, word::INPUT_BEGIN, self.input_begin);
    }

    /// So many of those were not.
    pub(in crate::process::survival) fn wrote_less(&mut self, count: usize) {
        self.input_begin = self.input_begin.saturating_sub(count as u64);
        set(&self.memory, word::INPUT_BEGIN, self.input_begin);
    }

    /// No input is queued any more.
    pub(in crate::process::survival) fn input_is_empty(&mut self) {
        self.input_begin = self.input_end;
        set(&self.memory, word::INPUT_BEGIN, self.input_begin);
        self.flag(flag::INPUT_UNKNOWN, false);
    }
}
