//! What a session's table holds: running processes, and those that are over until they are forgotten.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_children::orphans::{self, Leftover};
use tokio::task::AbortHandle;

use crate::process::process::Process;

#[derive(Default)]
pub(super) struct Entries {
    pub(super) by_id: HashMap<ById, Entry>,
    /// Processes that are over, by the order of their starts.
    pub(super) closed: BTreeMap<u64, Arc<Process>>,
    /// When each of those is to be forgotten, in the order of that.
    pub(super) expiring: VecDeque<(Instant, u64)>,
    /// Forgets them, as long as there are any.
    pub(super) evictor: Option<AbortHandle>,
    /// How long ended processes are remembered at least.
    pub(super) kept_for: Duration,
    /// Starts so far, for the order of a list.
    pub(super) started: u64,
    /// Whether a connection is attached to the session and follows its output.
    pub(super) attached: bool,
    /// Connections of other sessions have looked at its processes.
    pub(super) visited: bool,
    /// Nothing is started any more.
    pub(super) ended: bool,
    /// What evicted processes left behind.
    pub(super) leftovers: Vec<Leftover>,
}

/// A process that is found by its id, which it holds itself: a finished one is to cost little.
pub(super) struct ById(pub(super) Arc<Process>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // As its borrowed form.
        str::hash(self.borrow(), hasher);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for ById {}

pub(super) struct Entry {
    pub(super) number: u64,
    /// Watches the program; gone with that.
    pub(super) pump: Option<AbortHandle>,
}

impl Entries {
    /// Remembers what an evicted process left behind, as long as it runs.
    fn keep_leftovers(&mut self, process: &Process) {
        self.leftovers.extend(process.take_leftovers());
        self.leftovers.retain(|leftover| orphans::is_running(leftover.stamp).unwrap_or(false));
    }

    /// Makes room: forgets the process that was started first among those that are over. False if none is.
    pub(super) fn evict_oldest_closed(&mut self) -> bool {
        while let Some((number, process)) = self.closed.pop_first() {
            if self.evict(number, &process) {
                return true;
            }
        }
        // One that has closed this moment may not be among them yet.
        let closed = self.by_id.iter().filter(|(ById(process), _)| process.is_closed());
        let oldest = closed.min_by_key(|(_, entry)| entry.number);
        let oldest = oldest.map(|(ById(process), entry)| (entry.number, Arc::clone(process)));
        oldest.is_some_and(|(number, process)| self.evict(number, &process))
    }

    /// Forgets a process that is over. False if that has happened before.
    pub(super) fn evict(&mut self, number: u64, process: &Process) -> bool {
        self.closed.remove(&number);
        if self.numbered(process.id(), number).is_none() {
            return false;
        }
        self.by_id.remove(process.id().as_str());
        self.keep_leftovers(process);
        self.give_back();
        true
    }

    /// Forgets what is due by `now`; when the next is.
    pub(super) fn evict_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some((_, number)) = self.expiring.pop_front_if(|(due, _)| *due <= now) {
            if let Some(process) = self.closed.remove(&number) {
                self.evict(number, &process);
            }
        }
        self.expiring.front().map(|(due, _)| *due)
    }

    /// A session that has run a thousand programs and now runs one needs no room for a thousand.
    fn give_back(&mut self) {
        if self.by_id.capacity() > 4 * self.by_id.len() + 64 {
            self.by_id.shrink_to(2 * self.by_id.len());
        }
        if self.expiring.capacity() > 4 * self.expiring.len() + 64 {
            self.expiring.shrink_to(2 * self.expiring.len());
        }
    }

    /// The process of this id, if it is still this one.
    pub(super) fn numbered(&mut self, id: &str, number: u64) -> Option<&mut Entry> {
        self.by_id.get_mut(id).filter(|entry| entry.number == number)
    }

    pub(super) fn processes(&self) -> Vec<Arc<Process>> {
        self.by_id.keys().map(|ById(process)| Arc::clone(process)).collect()
    }
}
