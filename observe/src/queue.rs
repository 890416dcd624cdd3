//! Records that wait for the thread, within a bound, and the count of those for which there was no room.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::{NoRoom, WithoutRoom};

/// The records of one file.
#[derive(Debug)]
pub(crate) struct Queue<R> {
    most: usize,
    without_room: WithoutRoom,
    state: Mutex<State<R>>,
    /// Something was put in, or nobody will put anything in any more.
    more: Condvar,
    /// Everything is written, or the thread has given up for now.
    rested: Condvar,
}

#[derive(Debug)]
struct State<R> {
    waiting: VecDeque<R>,
    /// Places that are taken: of what waits, of what is being written, and of acts under way.
    taken: usize,
    lost: Option<Lost>,
    /// The thread holds records that are not written.
    writing: usize,
    failing: bool,
    over: bool,
}

/// Acts that were not recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    /// How many there were.
    pub(crate) acts: u64,
    /// When the first of them came.
    pub(crate) since: SystemTime,
}

/// What the thread takes.
pub(crate) struct Taken<R> {
    pub(crate) records: VecDeque<R>,
    pub(crate) lost: Option<Lost>,
}

impl<R> Queue<R> {
    pub(crate) fn new(most: usize, without_room: WithoutRoom) -> Self {
        let state =
            State { waiting: VecDeque::new(), taken: 0, lost: None, writing: 0, failing: false, over: false };
        Self { most, without_room, state: Mutex::new(state), more: Condvar::new(), rested: Condvar::new() }
    }

    /// Takes a place; false for an act that is only counted.
    pub(crate) fn claim(&self) -> Result<bool, NoRoom> {
        match self.without_room {
            WithoutRoom::Count => Ok(self.claim_or_count()),
            WithoutRoom::Refuse => {
                let mut state = self.state.lock();
                if state.taken >= self.most {
                    return Err(NoRoom);
                }
                state.taken += 1;
                Ok(true)
            }
        }
    }

    /// Takes a place, or counts an act that has none.
    pub(crate) fn claim_or_count(&self) -> bool {
        let mut state = self.state.lock();
        if state.taken < self.most {
            state.taken += 1;
            return true;
        }
        let lost = state.lost.get_or_insert_with(|| Lost { acts: 0, since: SystemTime::now() });
        lost.acts += 1;
        false
    }

    pub(crate) fn give_back(&self) {
        self.state.lock().taken -= 1;
    }

    /// Fills a place.
    pub(crate) fn put(&self, record: R) {
        let mut state = self.state.lock();
        state.waiting.push_back(record);
        let first = state.waiting.len() == 1;
        drop(state);
        // Behind the first the thread looks again by itself.
        if first {
            self.more.notify_one();
        }
    }

    /// Waits for records; none once nobody can put any in.
    pub(crate) fn take(&self) -> Option<Taken<R>> {
        let mut state = self.state.lock();
        loop {
            if !state.waiting.is_empty() || (state.over && state.lost.is_some()) {
                state.writing = state.waiting.len();
                let (records, lost) = (std::mem::take(&mut state.waiting), state.lost.take());
                return Some(Taken { records, lost });
            }
            if state.over {
                return None;
            }
            self.more.wait(&mut state);
        }
    }

    /// A record was written: its place is free.
    pub(crate) fn written(&self, records: usize) {
        let mut state = self.state.lock();
        state.taken -= records;
        state.writing -= records;
        state.failing = false;
        if state.writing == 0 && state.waiting.is_empty() {
            self.rested.notify_all();
        }
    }

    /// Nothing can be written: waits before the next try. False once nobody can put anything in any more.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        state.failing = true;
        self.rested.notify_all();
        let until = Instant::now() + time;
        while !state.over {
            if self.more.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
        false
    }

    /// Waits until all is written; how many records are not.
    pub(crate) fn flush(&self, time: Duration) -> usize {
        let mut state = self.state.lock();
        let until = Instant::now() + time;
        while state.writing + state.waiting.len() > 0 && !state.failing {
            if self.rested.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.writing + state.waiting.len()
    }

    /// Nobody can put anything in any more.
    pub(crate) fn end(&self) {
        self.state.lock().over = true;
        self.more.notify_all();
    }
}
