//! Moves a log into larger memory.

use std::io;
use std::os::fd::AsFd;

use codex_exec_protocol::Seq;

use super::Journal;
use crate::process::survival::layout::{self, RECORD, get, set, word};
use crate::process::survival::memory::Memory;
use crate::process::survival::replay;
use crate::process::survival::room::Room;

impl Journal {
    /// Moves into larger memory, once. False where that can't be: then nothing is kept any more.
    pub(super) fn grow(&mut self) -> bool {
        if self.given_up {
            return false;
        }
        let grown = match self.room.take() {
            Some(room) => self.move_to(&*room),
            None => Err(io::Error::other("it is as large as it gets")),
        };
        if let Err(error) = grown {
            tracing::warn!(%error, "a program's output can't be kept for another server; it ends with this one");
            self.give_up();
            return false;
        }
        true
    }

    fn move_to(&mut self, room: &dyn Room) -> io::Result<()> {
        let layout = room.layout();
        let (memory, fd) = Memory::create(layout.size())?;
        let mut larger = Self::begin(memory, layout, None);
        for record in replay::records(&self.memory, &self.layout) {
            larger.totals = record.before;
            larger.last_seq = record.seq.previous();
            let place = larger.make_place(record.bytes.len(), Seq::NONE);
            let place = place.ok_or_else(|| io::Error::other("it is too small"))?;
            larger.memory.put(place + RECORD, &record.bytes);
            larger.publish(place, record.stream, record.bytes.len(), record.staged);
        }
        (larger.totals, larger.last_seq) = (self.totals, self.last_seq);
        if larger.used() == 0 {
            larger.write_base();
        }
        for at in
            [word::EVICTED, word::FLAGS, word::KILL_AT, word::EXIT_SEQ, word::EXIT_LENGTH, word::CLOSED_SEQ]
        {
            set(&larger.memory, at, get(&self.memory, at));
        }
        set(&larger.memory, word::ENDING_LENGTH, get(&self.memory, word::ENDING_LENGTH));
        let said = self.memory.get(word::ENDING, layout::HEAD - word::ENDING);
        larger.memory.put(word::ENDING, &said);
        let key = room.hand_over(fd.as_fd())?;
        set(&self.memory, word::MOVED, key);
        *self = larger;
        Ok(())
    }
}
