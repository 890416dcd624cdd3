//! What a server that is killed leaves, and what the next one makes of it. The keeper is a table here.

mod logs;
mod programs;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use codex_children::orphans::Origin;
use codex_children::reap::{Ending, How};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags};

use super::layout::{ID, Layout};
use super::memory::Memory;
use super::record::Kind;
use super::*;

/// A keeper's store.
#[derive(Debug, Default)]
struct Table {
    keys: AtomicU64,
    entries: Mutex<HashMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    program: Option<(Pid, Origin)>,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Store for Table {
    fn new_key(&self) -> u64 {
        self.keys.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn put(
        &self,
        key: u64,
        program: Option<(Pid, Origin)>,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let descriptors =
            descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        self.entries.lock().insert(key, Entry { program, bytes: bytes.to_vec(), descriptors });
        Ok(())
    }

    fn forget(&self, key: u64) {
        self.entries.lock().remove(&key);
    }

    fn forget_now(&self, key: u64) {
        self.forget(key);
    }
}

impl Table {
    /// What the next server is handed.
    fn hand_on(&self) -> Vec<Handed> {
        let entries = self.entries.lock();
        let handed = entries.iter().map(|(key, entry)| Handed {
            key: *key,
            bytes: entry.bytes.clone(),
            descriptors: entry.descriptors.iter().map(|fd| fd.try_clone().expect("a descriptor")).collect(),
            program: entry.program.map(|(pid, origin)| Adopted {
                pid,
                origin,
                exit: rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped"),
            }),
        });
        handed.collect()
    }

    /// How many entries of each kind there are.
    fn count(&self, kind: Kind) -> usize {
        self.entries.lock().values().filter(|entry| Kind::of(&entry.bytes) == Some(kind)).count()
    }
}

#[test]
fn an_end_is_read_as_it_was_noted() {
    for how in [How::Exited(0), How::Exited(255), How::Killed(9)] {
        let ending = Ending {
            how,
            core_dumped: true,
            cpu_user: Duration::from_micros(1_500),
            cpu_system: Duration::from_micros(7),
            max_rss_bytes: 1 << 30,
        };
        let note = ending::write(&ending);
        assert!(note.len() <= layout::ENDING_ROOM);
        assert_eq!(read_ending(&note), Some(ending));
    }
    assert_eq!(read_ending(b""), None);
    assert_eq!(read_ending(b"{}"), None);
}
