//! Signals a program's process group, its whole tree, or what it left behind, and never anybody else.

use std::collections::HashSet;
use std::io;

use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::process::PidfdFlags;
use rustix::process::{Pid, Signal};

use super::child_mark::Mark;
use super::keeper::above;
use super::orphans::Origin;
use super::procfs::{self, ProcessStamp, Snapshot, StartTime, Stat};
use super::{list, orphans, supervision};

/// How often a tree that goes on growing is looked at. Then only what was found is signalled. A stopped tree can't grow, so
/// this many looks happen only when a signal other than SIGKILL meets endless forking.
/// A safeguard, far from any real use.
const MOST_ROUNDS: usize = 100;

/// Signals the process group of a program of ours. False if it was reaped before: then there is nobody to signal.
///
/// # Errors
/// When the system refuses, as for a program that runs as another user.
pub fn kill_group(root: Pid, signal: Signal) -> io::Result<bool> {
    let children = list::children();
    if !children.may_be_signalled(root) {
        return Ok(false);
    }
    match rustix::process::kill_process_group(root, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Signals the whole tree of a program of ours that isn't reaped yet, and returns how many processes that were: its
/// descendants, its session, the sessions its descendants lead, and (as subreaper) the orphans it left.
///
/// For SIGKILL a tree of several is stopped first, since only what can't fork can be found completely, and looked through
/// once more behind it.
///
/// # Errors
/// The first refusal; everybody else has been signalled nevertheless.
///
/// Where there is no `/proc`, it is the program's process group.
pub fn kill_tree(root: Pid, signal: Signal) -> io::Result<usize> {
    if !procfs::IS_THERE {
        return kill_group(root, signal).map(usize::from);
    }
    if signal == Signal::KILL && !matches!(procfs::stat(root), Ok(Some(_))) {
        // First, so that it doesn't see those end that it waits for.
        kill_hidden(root);
    }
    let swept = sweep(signal, || {
        let Some(mark) = list::children().spawned.get(&root).copied() else { return Ok(Vec::new()) };
        let Surroundings { seen, hidden } = surroundings(root)?;
        let mut roots = vec![root];
        if let Some(init) = list::children().init_of(root) {
            // What the program left in its namespace; the first process there is told nothing.
            roots.extend(seen.iter().filter(|stat| stat.parent == Some(init)).map(|stat| stat.stamp.pid));
        }
        roots.extend(own_orphans(&seen, root));
        if hidden && mark.is_some() {
            // What leads to some of them can't be seen.
            roots.extend(seen.iter().map(|stat| stat.stamp.pid).filter(|pid| Mark::of(*pid) == mark));
        }
        Ok(living(&seen.tree(roots)))
    });
    if signal == Signal::KILL {
        kill_hidden(root);
    }
    swept
}

/// Kills what belongs to a program of ours though `/proc` may not show it. A child that is not reaped can't be gone, and
/// its number nobody else's.
fn kill_hidden(root: Pid) {
    let ours = if supervision::is_subreaper() { procfs::our_children().ok().flatten() } else { None };
    let children = list::children();
    let Some(mark) = children.spawned.get(&root).copied() else { return };
    if children.may_be_signalled(root) {
        let _ = rustix::process::kill_process_group(root, Signal::KILL);
    }
    let surely = |init: &Pid| !children.is_adopted(root) || mark.is_some() && Mark::of(*init) == mark;
    if let Some(init) = children.init_of(root).filter(surely) {
        // Its whole namespace ends with it. Like the others, it is a child that was not reaped, or has the program's mark.
        let _ = rustix::process::kill_process(init, Signal::KILL);
    }
    let orphans = ours.into_iter().flatten().filter(|pid| children.is_unclaimed(*pid));
    for orphan in orphans.filter(|pid| mark.is_some() && Mark::of(*pid) == mark) {
        let _ = rustix::process::kill_process(orphan, Signal::KILL);
    }
}

/// Signals leftovers and their descendants, as [`kill_tree`] does.
///
/// # Errors
/// The first refusal; everybody else has been signalled nevertheless.
pub fn kill_leftovers(leftovers: &[ProcessStamp], signal: Signal) -> io::Result<usize> {
    if leftovers.is_empty() || !procfs::IS_THERE {
        return Ok(0);
    }
    sweep(signal, || {
        let snapshot = Snapshot::take()?;
        let still = |stamp: &&ProcessStamp| snapshot.get(stamp.pid).is_some_and(|stat| stat.stamp == **stamp);
        Ok(living(&snapshot.tree(leftovers.iter().filter(still).map(|stamp| stamp.pid))))
    })
}

/// Kills a program and all of its descendants, also those with other parents by now, and returns when none of them runs. A
/// descendant that took its mark off is found only while its own parent runs.
///
/// # Errors
/// The first refusal, or when `/proc` can't be read.
pub fn kill_descendants(origin: Origin) -> io::Result<()> {
    for _ in 0..MOST_ROUNDS {
        let running = orphans::still_running(origin)?;
        if running.is_empty() {
            break;
        }
        kill_leftovers(&running, Signal::KILL)?;
    }
    Ok(())
}

/// Whether one of these processes lives and is neither this process, nor its keeper, nor a descendant.
///
/// # Errors
/// When `/proc` can't be read.
pub fn has_stranger(pids: &[i32]) -> io::Result<bool> {
    let snapshot = Snapshot::take()?;
    let own = rustix::process::getpid();
    let children = snapshot.iter().filter(|stat| stat.parent == Some(own)).map(|stat| stat.stamp.pid);
    let family: HashSet<Pid> = snapshot.tree(children).into_iter().map(|stat| stat.stamp.pid).collect();
    Ok(pids.iter().any(|pid| match Pid::from_raw(*pid) {
        Some(pid) => {
            pid != own && Some(pid) != above::pid() && !family.contains(&pid) && snapshot.get(pid).is_some()
        }
        // One that this process can't see.
        None => true,
    }))
}

/// Whatever may belong to the tree of a program of ours. As subreaper that is below it or below an orphan of ours, and
/// most often a handful; without the kernel's lists of children, it is all of `/proc`.
///
/// The orphans come last: what leaves the program meanwhile comes to us.
fn surroundings(root: Pid) -> io::Result<Surroundings> {
    let all = |hidden| Ok(Surroundings { seen: Snapshot::take()?, hidden });
    if list::children().is_adopted(root) {
        // Its orphans are the keeper's, and known by their mark.
        return all(true);
    }
    let mut found = Snapshot::default();
    let lists_children = found.add_tree(root)?;
    if found.get(root).is_none() {
        return all(true);
    }
    if !supervision::is_subreaper() || !lists_children {
        return all(false);
    }
    let init = list::children().init_of(root);
    if let Some(init) = init {
        found.add_tree(init)?;
    }
    let Some(ours) = procfs::our_children()? else { return all(false) };
    let (orphans, programs): (Vec<Pid>, Vec<Pid>) = {
        let children = list::children();
        ours.into_iter().partition(|pid| children.is_unclaimed(*pid))
    };
    if !orphans.is_empty() {
        // Their ages tell which of them may have left an orphan.
        for pid in programs {
            found.add(pid)?;
        }
    }
    for pid in orphans {
        found.add_tree(pid)?;
        if found.get(pid).is_none() && procfs::is_hidden(pid) {
            return all(true);
        }
    }
    Ok(Surroundings { seen: found, hidden: false })
}

/// Whatever may belong to a program's tree.
struct Surroundings {
    seen: Snapshot,
    /// There is more than `/proc` shows.
    hidden: bool,
}

/// Those that were not dead when they were seen.
fn living(seen: &[&Stat]) -> Vec<ProcessStamp> {
    seen.iter().filter(|stat| !stat.is_zombie()).map(|stat| stat.stamp).collect()
}

/// Orphans that the program left: those with its mark. One without a mark counts when no other running program of ours
/// can have left it, since that would have to be as old.
fn own_orphans(snapshot: &Snapshot, root: Pid) -> Vec<Pid> {
    let Some(program) = snapshot.get(root) else { return Vec::new() };
    let (strangers, children) = orphans::unclaimed_orphans(snapshot);
    if strangers.is_empty() {
        return Vec::new();
    }
    let started = children.start_of(program);
    let mark = children.spawned.get(&root).copied().flatten();
    let others = children.spawned.keys().filter(|pid| **pid != root && !children.helpers.contains(pid));
    let others: Vec<StartTime> =
        others.filter_map(|pid| snapshot.get(*pid)).map(|other| children.start_of(other)).collect();
    strangers
        .into_iter()
        .filter(|orphan| match (Mark::of(orphan.stamp.pid), mark) {
            (Some(theirs), Some(mark)) => theirs == mark,
            (Some(_), None) => false,
            (None, _) => {
                orphan.stamp.start_time >= started
                    && others.iter().all(|other| *other > orphan.stamp.start_time)
            }
        })
        .map(|orphan| orphan.stamp.pid)
        .collect()
}

/// Signals the living members, until a look at them finds no new one.
fn sweep(signal: Signal, members: impl Fn() -> io::Result<Vec<ProcessStamp>>) -> io::Result<usize> {
    let mut sweep = Sweep::default();
    if signal == Signal::KILL {
        let found = sweep.look(&members);
        if found.len() > 1 {
            sweep.signal(found, Signal::STOP);
            sweep.reach(Signal::STOP, &members);
            let reached = std::mem::take(&mut sweep.reached);
            sweep.signal(reached, Signal::KILL);
        } else {
            sweep.signal(found, Signal::KILL);
        }
        // A process that was just forking may have a child that the last look missed. One that is being killed makes no more.
    }
    sweep.reach(signal, &members);
    sweep.refused.map_or(Ok(sweep.reached.len()), Err)
}

/// Who was signalled so far, and the first refusal.
#[derive(Default)]
struct Sweep {
    reached: HashSet<ProcessStamp>,
    refused: Option<io::Error>,
}

impl Sweep {
    /// Signals the members that were not reached before, until there are none.
    fn reach(&mut self, signal: Signal, members: &impl Fn() -> io::Result<Vec<ProcessStamp>>) {
        for _ in 0..MOST_ROUNDS {
            let new = self.look(members);
            if new.is_empty() {
                return;
            }
            self.signal(new, signal);
        }
    }

    /// The living members that were not reached before.
    fn look(&mut self, members: &impl Fn() -> io::Result<Vec<ProcessStamp>>) -> Vec<ProcessStamp> {
        let living = members().unwrap_or_else(|error| {
            self.refused.get_or_insert(error);
            Vec::new()
        });
        living.into_iter().filter(|stamp| !self.reached.contains(stamp)).collect()
    }

    fn signal(&mut self, stamps: impl IntoIterator<Item = ProcessStamp>, signal: Signal) {
        for stamp in stamps {
            self.reached.insert(stamp);
            if let Err(error) = signal_process(stamp, signal) {
                self.refused.get_or_insert(error);
            }
        }
    }
}

/// Signals exactly this process. False if it has ended, even if its number belongs to another by now.
///
/// # Errors
/// When the system refuses.
pub fn signal_process(stamp: ProcessStamp, signal: Signal) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    return signal_by_pidfd(stamp, signal);
    #[cfg(not(target_os = "linux"))]
    return signal_by_number(stamp, signal);
}

#[cfg(target_os = "linux")]
fn signal_by_pidfd(stamp: ProcessStamp, signal: Signal) -> io::Result<bool> {
    let gone = |error: Errno| matches!(error, Errno::SRCH | Errno::INVAL | Errno::NOENT);
    let pidfd = match rustix::process::pidfd_open(stamp.pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // INVAL: also what a number of nobody's gets.
        Err(Errno::NOSYS | Errno::PERM) => return signal_by_number(stamp, signal),
        Err(error) if gone(error) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // If the number passes to another process after this look, the pidfd still means the first.
    if procfs::stat(stamp.pid)?.is_none_or(|stat| stat.stamp != stamp) {
        return Ok(false);
    }
    match rustix::process::pidfd_send_signal(&pidfd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::PERM) => signal_by_number(stamp, signal),
        Err(error) if gone(error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The same without a pidfd (before Linux 5.3, or where a filter refuses it). Between the look and the signal the number
/// might pass to another process, but only if all other numbers were handed out in that moment.
fn signal_by_number(stamp: ProcessStamp, signal: Signal) -> io::Result<bool> {
    if procfs::stat(stamp.pid)?.is_none_or(|stat| stat.stamp != stamp) {
        return Ok(false);
    }
    match rustix::process::kill_process(stamp.pid, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
