//! Puts together what the keeper hands on: each program with its log, its streams and its stdin.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use codex_children::{reap, tree};

use super::handed::{Adopted, Handed};
use super::layout::Layout;
use super::memory::Memory;
use super::record::{self, Kind, NurseryRecord, ProcessRecord, SessionRecord};
use super::replay::{Found, replay};
use super::safe::{Held, Kept};
use super::store::Store;
use crate::process::adopted::LeftProgram;

/// What an earlier server has left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Its sessions, and their entries.
    pub(crate) sessions: Vec<(SessionRecord, Held)>,
    /// Its programs, by the hashes of their sessions' ids.
    pub(crate) programs: HashMap<String, Vec<LeftProgram>>,
}

/// Memory and descriptors that programs refer to.
#[derive(Debug, Default)]
struct Parts {
    nurseries: HashMap<u64, (Memory, Arc<Held>)>,
    memories: HashMap<u64, OwnedFd>,
    stdins: HashMap<u64, OwnedFd>,
}

/// Puts entries together. What this build can't go on with ends, and is forgotten.
pub(crate) fn sort(handed: Vec<Handed>, store: &Arc<dyn Store>) -> Left {
    let (mut left, mut parts, mut programs) = (Left::default(), Parts::default(), Vec::new());
    for entry in handed {
        let kind = Kind::of(&entry.bytes);
        if let (Some(Kind::Process), _) = (kind, &entry.program) {
            programs.push(entry);
            continue;
        }
        let key = entry.key;
        if let Err(error) = parts.take(kind, entry, &mut left, store) {
            tracing::warn!(%error, "something that an earlier server left can't be used");
            store.forget(key);
        }
    }
    for Handed { key, bytes, descriptors, program } in programs {
        match parts.program(key, &bytes) {
            Ok((kept, found)) => {
                let stdin = kept.stdin.and_then(|key| parts.stdins.remove(&key));
                let session = kept.record.session.clone();
                let program = LeftProgram { kept, found, program, outputs: descriptors, stdin };
                left.programs.entry(session).or_default().push(program);
            }
            Err(error) => {
                tracing::warn!(%error, "a program that an earlier server left can't go on, and is ended");
                end(program);
                store.forget(key);
            }
        }
    }
    // Programs hold theirs by now.
    parts.memories.into_keys().chain(parts.stdins.into_keys()).for_each(|key| store.forget(key));
    left
}

/// Ends a program that nobody can go on with, and all that it has started.
pub(crate) fn end(program: Option<Adopted>) {
    let Some(Adopted { pid, origin, .. }) = program else { return };
    if let Err(error) = tree::kill_descendants(origin) {
        tracing::warn!(%error, "can't end all of it");
    }
    let _ = reap::try_reap(pid);
}

impl Parts {
    fn take(
        &mut self,
        kind: Option<Kind>,
        entry: Handed,
        left: &mut Left,
        store: &Arc<dyn Store>,
    ) -> io::Result<()> {
        let Handed { key, bytes, descriptors, program } = entry;
        let first = descriptors.into_iter().next();
        let first = || first.ok_or_else(|| senseless("a descriptor is missing"));
        match kind {
            Some(Kind::Session) => left.sessions.push((record::read(&bytes)?, Held::new(store, key))),
            Some(Kind::Nursery) => {
                let _: NurseryRecord = record::read(&bytes)?;
                let held = Arc::new(Held::new(store, key));
                self.nurseries.insert(key, (Memory::open(first()?)?, held));
            }
            Some(Kind::Memory) => drop(self.memories.insert(key, first()?)),
            Some(Kind::Stdin) => drop(self.stdins.insert(key, first()?)),
            Some(Kind::Process) | None => {
                end(program);
                return Err(senseless("it is of an unknown kind"));
            }
        }
        Ok(())
    }

    /// A program's record, and what its log holds.
    fn program(&mut self, key: u64, bytes: &[u8]) -> io::Result<(Kept, Found)> {
        let record: ProcessRecord = record::read(bytes)?;
        let memory = record.memory.ok_or_else(|| senseless("it has no log"))?;
        let (young, nursery, mut moved) = match self.nurseries.get(&memory) {
            Some((memory, held)) => {
                let number = |number| usize::try_from(number).map_err(|_| senseless("its log is nowhere"));
                let part = memory.part(number(record.memory_from)?, number(record.memory_size)?);
                (part, Some(Arc::clone(held)), None)
            }
            None => (self.open(memory)?, None, Some(memory)),
        };
        let (mut memory, (mut layout, mut found)) = read(young)?;
        if let Some(larger) = found.moved {
            (memory, (layout, found)) = read(self.open(larger)?)?;
            moved = Some(larger);
        }
        if found.given_up {
            return Err(senseless("its output was not kept to the end"));
        }
        if let Some(key) = moved {
            self.memories.remove(&key);
        }
        let stdin = record.stdin.filter(|key| self.stdins.contains_key(key));
        Ok((Kept { key, record, stdin, moved, nursery, memory, layout }, found))
    }

    fn open(&self, key: u64) -> io::Result<Option<Memory>> {
        self.memories.get(&key).map(Memory::open).transpose()
    }
}

fn read(memory: Option<Memory>) -> io::Result<(Memory, (Layout, Found))> {
    let memory = memory.ok_or_else(|| senseless("the memory of its log is missing"))?;
    let replayed = replay(&memory).ok_or_else(|| senseless("its log can't be read by this version"))?;
    Ok((memory, replayed))
}

fn senseless(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
