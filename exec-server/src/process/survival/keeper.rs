//! The keeper above this server, as what it keeps things in.

use std::io;
use std::os::fd::BorrowedFd;

use codex_children::keeper::{self, Key, Kin, Put};
use codex_children::orphans::Origin;
use rustix::process::Pid;

use super::handed::{Adopted, Handed};
use super::store::Store;

impl Store for keeper::Store {
    fn new_key(&self) -> u64 {
        keeper::Store::new_key(self).number()
    }

    fn put(
        &self,
        key: u64,
        program: Option<(Pid, Origin)>,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let program = program.map(|(pid, origin)| Kin::of(pid, origin));
        keeper::Store::put(self, Key::from_number(key), &Put { program, bytes, descriptors })
    }

    fn forget(&self, key: u64) {
        keeper::Store::forget(self, Key::from_number(key));
    }

    fn forget_now(&self, key: u64) {
        keeper::Store::forget_now(self, Key::from_number(key));
    }
}

impl Handed {
    /// What a keeper hands on. Its program is one of this server's from now on.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn by_keeper(mut entry: keeper::Entry) -> io::Result<Self> {
        let program = entry.adopt()?;
        Ok(Self {
            key: entry.key.number(),
            bytes: entry.bytes,
            descriptors: entry.descriptors,
            program: program.map(|keeper::Adopted { pid, exit, origin }| Adopted { pid, origin, exit }),
        })
    }
}
