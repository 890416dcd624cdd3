//! What becomes of logs in time: those of dead servers are ended, old ones removed.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use crate::directory::{Directory, How};
use crate::error::{LogError, LogId};
use crate::index::{Entry, Index};
use crate::position::Position;
use crate::record::Kind;
use crate::scan::{Found, Scanner};
use crate::start::{End, Outcome, Start};
use crate::store::{Store, hold, owner_name};
use crate::writer::finish;

/// Entries that are read at once. Chosen for speed.
const AT_ONCE: u64 = 4096;

/// What was found of dead servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Logs that were ended.
    pub ended: usize,
    /// Logs that had ended and were missing in the index.
    pub entered: usize,
    /// Logs that nothing can be told of, and that were removed.
    pub unreadable: usize,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Logs.
    pub logs: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that all logs still take.
    pub left: u64,
    /// Bytes that are too many, all of logs that have not ended.
    pub too_many: u64,
}

/// Dead servers whose logs we end: nobody else does so meanwhile.
#[derive(Default)]
struct Claims(HashMap<[u8; 16], Option<File>>);

impl Claims {
    /// Whether this server is dead, and its logs are ours to end.
    fn claim(&mut self, store: &Store, owner: [u8; 16]) -> bool {
        let owners = &store.places().owners;
        let claim = self.0.entry(owner).or_insert_with(|| {
            // One that ended in the ordinary way has removed its file.
            let file = owners.file(&owner_name(&owner), How::Change).ok()?;
            hold(&file).ok().map(|()| file)
        });
        claim.is_some()
    }

    fn release(self, store: &Store) {
        for (owner, _held) in self.0.into_iter().filter(|(_, file)| file.is_some()) {
            let _ = store.places().owners.remove_file(&owner_name(&owner));
        }
    }
}

impl Store {
    /// Ends the logs of servers that died, and enters in the index what is missing there.
    ///
    /// # Errors
    /// Of the system.
    pub fn recover(&self, now: u64) -> Result<Recovered, LogError> {
        let places = self.places();
        let (mut recovered, mut claims) = (Recovered::default(), Claims::default());
        let mut dead = Vec::new();
        {
            let _lock = places.lock()?;
            for name in places.open.names()? {
                let Ok(id) = name.parse::<LogId>() else { continue };
                let Ok(directory) = places.open.existing(&name) else { continue };
                match directory.start() {
                    Ok(Some(start)) if claims.claim(self, start.owner) => dead.push((id, directory, start)),
                    Ok(None) => {
                        recovered.unreadable += 1;
                        places.open.remove_directory(&name)?;
                    }
                    _ => {}
                }
            }
            self.forget_owners(&mut claims)?;
        }
        for (id, directory, start) in dead {
            self.end_dead(id, &directory, &start, now)?;
            recovered.ended += 1;
        }
        claims.release(self);
        recovered.entered = self.enter_missing()?;
        Ok(recovered)
    }

    /// Claims servers that died and left no log.
    fn forget_owners(&self, claims: &mut Claims) -> Result<(), LogError> {
        for name in self.places().owners.names()? {
            if let Ok(owner) = name.parse::<LogId>() {
                claims.claim(self, owner.bytes());
            }
        }
        Ok(())
    }

    fn end_dead(&self, id: LogId, directory: &Directory, start: &Start, now: u64) -> Result<(), LogError> {
        let end = match directory.end()? {
            Some(end) => end,
            None => self.end_of(directory, start, now)?,
        };
        finish(self.places(), directory, id, start.time, &end, disk_bytes(directory)?)
    }

    /// What the segments tell of the end of a log whose writer died.
    fn end_of(&self, directory: &Directory, start: &Start, now: u64) -> Result<End, LogError> {
        let lost = if start.boot == self.boot() { Outcome::ServerLost } else { Outcome::MachineLost };
        let mut end = End { outcome: lost, time: now, position: Position::START, exit: None };
        for begins in directory.segments()? {
            end.position = end.position.max(begins);
            let file = directory.file(&begins.segment(), How::Read)?;
            let mut scanner = Scanner::new(file, start.salt);
            let fail = |source| directory.io("read", &begins.segment(), source);
            loop {
                let head = match scanner.next().map_err(fail)? {
                    Found::Damaged(_) => continue,
                    Found::End(_) => break,
                    Found::Record(head) if head.kind == Kind::Gap => continue,
                    Found::Record(head) => head,
                };
                let behind = Position { seq: head.seq + 1, offset: head.offset + head.output() };
                end.position = end.position.max(behind);
                match head.kind {
                    Kind::Exited => end.exit = scanner.content(&head).map_err(fail)?,
                    Kind::Closed => end.outcome = Outcome::Closed,
                    _ => {}
                }
            }
        }
        Ok(end)
    }

    /// Enters ended logs that the index does not have: their server died in between, or the index was damaged.
    fn enter_missing(&self) -> Result<usize, LogError> {
        let places = self.places();
        let _lock = places.lock()?;
        let mut index = Index::open(&places.root)?;
        let (first, last) = index.range();
        let known: HashSet<LogId> = index.read(first, last)?.iter().map(|(_, entry)| entry.id).collect();
        let mut missing = Vec::new();
        for name in places.ended.names()? {
            let Some(id) = name.parse::<LogId>().ok().filter(|id| !known.contains(id)) else { continue };
            let directory = places.ended.existing(&name)?;
            match (directory.start()?, directory.end()?) {
                (Some(start), Some(end)) => missing.push(Entry {
                    id,
                    started: start.time,
                    ended: end.time,
                    outcome: end.outcome,
                    position: end.position,
                    disk_bytes: disk_bytes(&directory)?,
                }),
                // Damaged twice: nothing could ever be read of it, or tell when it is to go.
                _ => places.ended.remove_directory(&name)?,
            }
        }
        missing.sort_by_key(|entry| entry.ended);
        for entry in &missing {
            index.append(entry)?;
        }
        Ok(missing.len())
    }

    /// Removes logs that have been kept for long enough by `now`, and those that ended first as long as all take too much.
    ///
    /// # Errors
    /// Of the system.
    pub fn sweep(&self, now: u64) -> Result<Swept, LogError> {
        let places = self.places();
        let bounds = &places.bounds;
        let kept = u64::try_from(bounds.kept.as_millis()).unwrap_or(u64::MAX);
        let _lock = places.lock()?;
        let mut index = Index::open(&places.root)?;
        let (first, last) = index.range();
        let open = open_bytes(&places.open)?;
        let mut swept = Swept { left: open, ..Swept::default() };
        for from in (first..last).step_by(AT_ONCE as usize) {
            let entries = index.read(from, last.min(from + AT_ONCE))?;
            swept.left += entries.iter().map(|(_, entry)| entry.disk_bytes).sum::<u64>();
        }
        let mut head = first;
        'all: while head < last {
            let to = last.min(head + AT_ONCE);
            for (number, entry) in index.read(head, to)? {
                let expired = entry.ended.saturating_add(kept) <= now;
                if !expired && swept.left <= bounds.all_bytes {
                    head = number;
                    break 'all;
                }
                places.ended.remove_directory(&entry.id.to_string())?;
                swept.logs += 1;
                swept.bytes += entry.disk_bytes;
                swept.left -= entry.disk_bytes;
            }
            head = to;
        }
        if head > first {
            index.forget_before(head)?;
        }
        swept.too_many = swept.left.saturating_sub(bounds.all_bytes);
        Ok(swept)
    }
}

/// Bytes of a log's segments.
fn disk_bytes(directory: &Directory) -> Result<u64, LogError> {
    Ok(directory.segments()?.iter().map(|begins| directory.size(&begins.segment())).sum())
}

/// Bytes of all logs that have not ended.
fn open_bytes(open: &Directory) -> Result<u64, LogError> {
    let logs = open.names()?.into_iter().filter(|name| name.parse::<LogId>().is_ok());
    // One that has ended meanwhile counts among the others next time.
    Ok(logs.filter_map(|name| disk_bytes(&open.existing(&name).ok()?).ok()).sum())
}
