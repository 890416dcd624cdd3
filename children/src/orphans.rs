//! Knows the processes that outlive the program that started them, and reaps those that the kernel gives to us.
//!
//! A process whose parent dies is given to the nearest ancestor that asked for orphans ("subreaper"). The server asks,
//! so that a daemon that detached itself from everything is still seen, listed and ended. A host program that only
//! embeds the library doesn't; then what is left in the ended program's session is all that can be found.

use std::collections::HashSet;
use std::io;

use parking_lot::MutexGuard;
use rustix::process::{Pid, WaitOptions};

use super::child_mark::Mark;
use super::list::{self, Children};
pub use super::origin::Origin;
use super::procfs::{self, Snapshot, Stat};
pub use super::procfs::{ProcessStamp, StartTime};
use super::supervision;

/// A process that outlived the program it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The process's number and start time.
    pub stamp: ProcessStamp,
    /// The kernel's name for its program, at most 15 bytes; whatever is no UTF-8 is replaced.
    pub name: String,
}

impl From<&Stat> for Leftover {
    fn from(stat: &Stat) -> Self {
        Self { stamp: stat.stamp, name: stat.name.clone() }
    }
}

/// Reaps the orphans that have ended, so that no zombie stays, and returns them. Never a program that
/// [`super::spawn`] started. To be called on SIGCHLD; without orphans it costs one small read.
///
/// # Errors
/// When `/proc` can't be read.
pub fn reap_adopted() -> io::Result<Vec<Pid>> {
    if !supervision::is_subreaper() {
        return Ok(Vec::new());
    }
    let orphans = not_spawned()?;
    let mut children = list::children();
    let mut reaped = Vec::new();
    for pid in orphans {
        // The number may have been given to another process meanwhile: a program started since then is in the list.
        if !children.spawned.contains_key(&pid)
            && matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)))
        {
            children.forget_orphan(pid);
            reaped.push(pid);
        }
    }
    Ok(reaped)
}

/// What outlived a program that was just reaped; `root` and `origin` are its [`super::spawn::Child`]'s.
///
/// As subreaper: the orphans with the program's mark, and their descendants. Orphans without any mark (somebody took it
/// off, or the machine sets a bound of its own where marks are put) count when they came since the last call and their
/// session isn't that of a running program; a daemon of a *running* program can't be told from those. What is returned
/// once is not returned again for another program. Of a program with a PID namespace of its own, all that is still in there.
/// Not as subreaper: the members of the program's session and their descendants, for which all of `/proc` is read.
///
/// When nothing is left this costs one small read (as subreaper).
///
/// # Errors
/// When `/proc` can't be read.
pub fn leftovers_of(root: Pid, origin: Origin) -> io::Result<Vec<Leftover>> {
    if !procfs::IS_THERE {
        return Ok(Vec::new());
    }
    if !supervision::is_subreaper() {
        let snapshot = Snapshot::take()?;
        return Ok(alive(&snapshot, session_without_leader(&snapshot, root)));
    }
    let Origin { started, mark, adopted } = origin;
    if adopted {
        return left_by_adopted(origin);
    }
    let init = list::children().init_of(root);
    let in_namespace = init.map_or(Ok(false), procfs::may_have_children)?;
    if !in_namespace && !may_have_left(mark)? {
        return Ok(Vec::new());
    }
    let snapshot = Snapshot::take()?;
    let (unknown, mut children) = unclaimed_orphans(&snapshot);
    let others: Vec<Pid> = children.spawned.keys().copied().filter(|pid| *pid != root).collect();
    let of_others = snapshot.tree(others);
    let mut left: Vec<&Stat> = Vec::new();
    for orphan in unknown {
        let pid = orphan.stamp.pid;
        match Mark::of(pid) {
            Some(theirs) if Some(theirs) == mark => left.push(orphan),
            Some(theirs) if children.spawned.values().any(|running| *running == Some(theirs)) => {
                children.daemons.insert(pid, theirs);
            }
            // Left by a program that ended earlier; no other program needs to know.
            Some(_) => {
                children.claimed.insert(pid, orphan.session);
            }
            None => {
                let may_be_anothers = of_others.iter().any(|other| other.stamp == orphan.stamp);
                if orphan.stamp.start_time >= started && (orphan.session == Some(root) || !may_be_anothers) {
                    left.push(orphan);
                }
            }
        }
    }
    for orphan in &left {
        children.claimed.insert(orphan.stamp.pid, orphan.session);
    }
    drop(children);
    // They are never ours to reap.
    left.extend(snapshot.iter().filter(|stat| in_namespace && stat.parent == init));
    if !left.is_empty() {
        supervision::left_on_purpose(mark);
    }
    Ok(alive(&snapshot, left.iter().map(|orphan| orphan.stamp.pid).collect()))
}

/// What outlived a program that a server before this one has started: what runs with its mark.
fn left_by_adopted(origin: Origin) -> io::Result<Vec<Leftover>> {
    let running = still_running(origin)?;
    let stats = running.into_iter().filter_map(|stamp| procfs::stat(stamp.pid).ok().flatten());
    let left: Vec<Leftover> =
        stats.filter(|stat| !stat.is_zombie()).map(|stat| Leftover::from(&stat)).collect();
    if !left.is_empty() {
        supervision::left_on_purpose(origin.mark);
    }
    Ok(left)
}

/// The processes that run with a program's mark: it and its descendants, whoever their parents are by now. Reads all of
/// `/proc`; none for a program without a mark.
///
/// # Errors
/// When `/proc` can't be read.
pub fn still_running(origin: Origin) -> io::Result<Vec<ProcessStamp>> {
    let Some(mark) = origin.mark else { return Ok(Vec::new()) };
    let inits: HashSet<Pid> = list::children().inits.keys().copied().collect();
    let marked = procfs::processes()?.filter(|pid| !inits.contains(pid) && Mark::of(*pid) == Some(mark));
    let stats = marked.filter_map(|pid| procfs::stat(pid).ok().flatten());
    Ok(stats.filter(|stat| !stat.is_zombie()).map(|stat| stat.stamp).collect())
}

/// Whether this process still runs. One that `/proc` no longer shows us, but that is there, counts as running.
///
/// # Errors
/// When `/proc` can't be read.
pub fn is_running(stamp: ProcessStamp) -> io::Result<bool> {
    match procfs::stat(stamp.pid)? {
        Some(stat) => Ok(stat.stamp == stamp && !stat.is_zombie()),
        None => Ok(procfs::is_hidden(stamp.pid)),
    }
}

/// The kernel's name for a process's program now; `None` once it has ended.
///
/// # Errors
/// When `/proc` can't be read.
pub fn name(stamp: ProcessStamp) -> io::Result<Option<String>> {
    let stat = procfs::stat(stamp.pid)?;
    Ok(stat.filter(|stat| stat.stamp == stamp && !stat.is_zombie()).map(|stat| stat.name))
}

/// The orphans in the snapshot that belong to no program yet, and the locked list of children. An orphan in the session of
/// an earlier leftover belongs to the same program, and is claimed along with it.
pub(super) fn unclaimed_orphans(snapshot: &Snapshot) -> (Vec<&Stat>, MutexGuard<'static, Children>) {
    if !supervision::is_subreaper() {
        return (Vec::new(), list::children());
    }
    let orphans = snapshot.iter().filter(|stat| is_our_child(stat) && !stat.is_zombie());
    let settled = list::settled(orphans.map(|stat| stat.stamp.pid).collect());
    let mut children = list::children();
    let unknown: Vec<&Stat> = settled
        .into_iter()
        .filter(|pid| children.is_unclaimed(*pid))
        .filter_map(|pid| snapshot.get(pid))
        // A program of ours that was reaped since the snapshot, or that failed to start, is no orphan.
        .filter(|seen| {
            procfs::stat(seen.stamp.pid).is_ok_and(|now| now.is_some_and(|now| now.stamp == seen.stamp))
        })
        .collect();
    let (kin, strangers): (Vec<&Stat>, Vec<&Stat>) = unknown.into_iter().partition(|stat| {
        stat.session.is_some() && children.claimed.values().any(|session| *session == stat.session)
    });
    children.claimed.extend(kin.iter().map(|stat| (stat.stamp.pid, stat.session)));
    (strangers, children)
}

fn is_our_child(stat: &Stat) -> bool {
    stat.parent == Some(rustix::process::getpid())
}

/// The members of a session whose leader has ended. The kernel gives its number away only when there are none left.
fn session_without_leader(snapshot: &Snapshot, leader: Pid) -> Vec<Pid> {
    if snapshot.get(leader).is_some() {
        return Vec::new();
    }
    let members = snapshot.iter().filter(|stat| stat.session == Some(leader));
    members.map(|stat| stat.stamp.pid).collect()
}

fn alive(snapshot: &Snapshot, roots: Vec<Pid>) -> Vec<Leftover> {
    let tree = snapshot.tree(roots).into_iter();
    tree.filter(|stat| !stat.is_zombie()).map(Leftover::from).collect()
}

fn may_have_left(mark: Option<Mark>) -> io::Result<bool> {
    let candidates = candidates()?;
    let children = list::children();
    Ok(candidates.into_iter().any(|pid| children.may_be_of(mark, pid)))
}

/// Our children that are neither programs of ours nor about to become such.
fn not_spawned() -> io::Result<Vec<Pid>> {
    let candidates = candidates()?;
    if candidates.is_empty() {
        return Ok(candidates);
    }
    let settled = list::settled(candidates);
    let children = list::children();
    Ok(settled.into_iter().filter(|pid| !children.spawned.contains_key(pid)).collect())
}

/// All children that may be orphans.
fn candidates() -> io::Result<Vec<Pid>> {
    if let Some(pids) = procfs::main_thread_children()? {
        return Ok(pids);
    }
    let snapshot = Snapshot::take()?;
    Ok(snapshot.iter().filter(|stat| is_our_child(stat)).map(|stat| stat.stamp.pid).collect())
}
