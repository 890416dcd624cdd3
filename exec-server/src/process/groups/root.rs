//! The directory that one server's groups are made in: set up once, swept of what dead servers left, removed at the end.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_exec_protocol::process::ProgramLimits;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::delegated::{Controllers, DelegatedGroup, SERVER, members};
use super::remove;

/// Groups of programs are made below one directory of this name for each server, with its pid behind.
const PROGRAMS: &str = "codex-programs.";
/// Rounds of moving what was found until nobody is left; who forks meanwhile is found in the next.
/// A safeguard, far from any real use.
const MOST_ROUNDS: usize = 16;
/// Levels of groups within groups that are removed, should a program have made some.
/// A safeguard, far from any real use.
const MOST_LEVELS: usize = 4;

/// One server's directory of groups. Dropped, it goes, and the server is back in its own group, as far as nothing runs there
/// any more. Controllers that were switched on stay on in the root group and in a group around the server's: others may
/// have made groups there since, which would lose their bounds.
#[derive(Debug)]
pub(super) struct GroupRoot {
    delegated: DelegatedGroup,
    directory: PathBuf,
    /// Locked as long as this server lives, which tells others that the directory is in use.
    _lock: File,
    next: AtomicU64,
    /// Groups that something may still run in. Locked for moments only, never over I/O.
    lingering: Mutex<HashSet<PathBuf>>,
    moved: Option<PathBuf>,
}

impl GroupRoot {
    /// Sets it up. Moves this process, with its keeper, into a group of its own if they are in the way.
    pub(super) fn prepare(delegated: DelegatedGroup) -> io::Result<Self> {
        sweep(&delegated.directory);
        let moved = if delegated.must_move { Some(make_way(&delegated)?) } else { delegated.moved.clone() };
        let made = Self::make(&delegated, moved.clone());
        if made.is_err() {
            moved.iter().for_each(|moved| move_back(&delegated, moved));
        }
        made
    }

    fn make(delegated: &DelegatedGroup, moved: Option<PathBuf>) -> io::Result<Self> {
        switch_on(&delegated.directory, delegated.controllers)?;
        for attempt in 0..MOST_ROUNDS {
            let name = format!("{PROGRAMS}{}.{attempt}", std::process::id());
            let directory = delegated.directory.join(name);
            match fs::create_dir(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            // Another server's sweep that comes between may take it for a dead one's, and remove it.
            let Ok(lock) = File::open(&directory) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
                || !directory.exists()
            {
                continue;
            }
            switch_on(&directory, delegated.controllers)?;
            return Ok(Self {
                delegated: delegated.clone(),
                directory,
                _lock: lock,
                next: AtomicU64::new(0),
                lingering: Mutex::default(),
                moved,
            });
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "all names for a group are taken"))
    }

    pub(super) fn controllers(&self) -> Controllers {
        self.delegated.controllers
    }

    /// Whether a group would bound anything of this.
    pub(super) fn can_keep(&self, limits: &ProgramLimits) -> bool {
        let Controllers { memory, processes } = self.controllers();
        (memory && limits.memory_bytes.is_some()) || (processes && limits.processes.is_some())
    }

    /// Makes a group with its bounds.
    pub(super) fn make_group(self: Arc<Self>, limits: &ProgramLimits) -> io::Result<(PathBuf, Arc<Self>)> {
        self.tidy();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        fs::create_dir(&directory)?;
        match self.set(&directory, limits) {
            Ok(()) => Ok((directory, self)),
            Err(error) => {
                remove(&directory);
                Err(error)
            }
        }
    }

    fn set(&self, directory: &Path, limits: &ProgramLimits) -> io::Result<()> {
        let Controllers { memory, processes } = self.controllers();
        if let Some(bytes) = limits.memory_bytes.filter(|_| memory) {
            fs::write(directory.join("memory.max"), bytes.to_string())?;
            // All or nothing: what is left of a program after one of its processes was killed is seldom of use.
            there(fs::write(directory.join("memory.oom.group"), "1"))?;
            // Not there without swap accounting.
            there(fs::write(directory.join("memory.swap.max"), "0"))?;
        }
        if let Some(most) = limits.processes.filter(|_| processes) {
            // The kernel takes no more than fits an int, which is more than it can number.
            fs::write(directory.join("pids.max"), most.min(i32::MAX.unsigned_abs().into()).to_string())?;
        }
        Ok(())
    }

    fn lingering(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.lingering.lock()
    }

    /// Removes a group now, or once nothing runs in it. Blocks.
    pub(super) fn let_go(&self, directory: &Path) {
        // Before the try, so that whoever tidies after the last of it has ended finds it.
        self.lingering().insert(directory.to_owned());
        self.try_removal(directory);
    }

    /// Whether there may be something to tidy. Waits for nothing.
    pub(super) fn is_untidy(&self) -> bool {
        !self.lingering().is_empty()
    }

    /// Removes the groups in which nothing runs any more. Blocks.
    pub(super) fn tidy(&self) {
        let all: Vec<PathBuf> = self.lingering().iter().cloned().collect();
        all.iter().for_each(|directory| self.try_removal(directory));
    }

    fn try_removal(&self, directory: &Path) {
        if remove_tree(directory, MOST_LEVELS) {
            self.lingering().remove(directory);
        }
    }
}

impl Drop for GroupRoot {
    fn drop(&mut self) {
        self.tidy();
        // While something still runs in there, it stays until a later server sweeps.
        if remove(&self.directory)
            && let Some(moved) = &self.moved
        {
            move_back(&self.delegated, moved);
        }
    }
}

fn there(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn switch_on(directory: &Path, controllers: Controllers) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let on = Controllers::in_list(&fs::read_to_string(&file)?);
    let missing = Controllers {
        memory: controllers.memory && !on.memory,
        processes: controllers.processes && !on.processes,
    };
    if missing.is_empty() {
        return Ok(());
    }
    let written = fs::write(&file, missing.switch('+'));
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

/// Moves everybody in the server's group, all of them its own, into one below: who is in a group can't share it with
/// groups that have bounds.
fn make_way(delegated: &DelegatedGroup) -> io::Result<PathBuf> {
    let leaf = delegated.directory.join(format!("{SERVER}{}", std::process::id()));
    for _ in 0..MOST_ROUNDS {
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        move_all(&delegated.directory, &leaf)?;
        if members(&delegated.directory)?.is_empty() {
            match switch_on(&delegated.directory, delegated.controllers) {
                Ok(()) => return Ok(leaf),
                // Somebody came in again.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => {
                    move_back(delegated, &leaf);
                    return Err(error);
                }
            }
        }
    }
    move_back(delegated, &leaf);
    Err(io::Error::other(format!("{} does not become empty", delegated.directory.display())))
}

fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    let entrance = to.join("cgroup.procs");
    for pid in members(from)? {
        match fs::write(&entrance, pid.to_string()) {
            // It has ended.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            // A sweep removed the empty group: made again in the next round.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Undoes [`make_way`], as far as it goes.
fn move_back(delegated: &DelegatedGroup, leaf: &Path) {
    let undo = || -> io::Result<()> {
        fs::write(delegated.directory.join("cgroup.subtree_control"), delegated.controllers.switch('-'))?;
        for _ in 0..MOST_ROUNDS {
            move_all(leaf, &delegated.directory)?;
            if remove(leaf) {
                break;
            }
        }
        Ok(())
    };
    if let Err(error) = undo() {
        tracing::warn!(%error, "can't leave the cgroup {}", leaf.display());
    }
}

/// Removes what servers left that are dead: their directories are not locked, and nothing runs in their groups.
fn sweep(delegated: &Path) {
    let Ok(names) = fs::read_dir(delegated) else { return };
    for name in names.flatten() {
        let (path, name) = (name.path(), name.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(PROGRAMS) {
            // Locked until it is gone: a server that has just made it, and has not locked it yet, makes another.
            if let Ok(opened) = File::open(&path)
                && rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                remove_tree(&path, MOST_LEVELS);
            }
        } else if name.starts_with(SERVER) {
            // The kernel refuses while somebody is in it.
            remove(&path);
        }
    }
}

/// Removes a group with those below. False while something runs in any.
fn remove_tree(directory: &Path, levels: usize) -> bool {
    if remove(directory) {
        return true;
    }
    if levels > 0
        && let Ok(names) = fs::read_dir(directory)
    {
        for name in names.flatten().filter(|name| name.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_tree(&name.path(), levels - 1);
        }
    }
    remove(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories stand in for groups.
    fn root(directory: &Path) -> GroupRoot {
        GroupRoot {
            delegated: DelegatedGroup {
                directory: directory.to_owned(),
                must_move: false,
                controllers: Controllers::default(),
                moved: None,
            },
            directory: directory.join("programs"),
            _lock: File::open(directory).expect("a directory"),
            next: AtomicU64::new(0),
            lingering: Mutex::default(),
            moved: None,
        }
    }

    #[test]
    fn a_sweep_removes_what_nobody_has_locked_and_nothing_else() {
        let delegated = tempfile::tempdir().expect("a directory");
        let path = |name: &str| delegated.path().join(name);
        let names =
            ["codex-programs.1.0/7/inner", "codex-programs.2.0/1", "codex-server.1", "other", "codex-x"];
        for name in names {
            fs::create_dir_all(path(name)).expect("made");
        }
        let lives = File::open(path("codex-programs.2.0")).expect("a directory");
        rustix::fs::flock(&lives, FlockOperation::NonBlockingLockExclusive).expect("locked");
        sweep(delegated.path());
        let left: Vec<bool> = names.iter().map(|name| path(name).exists()).collect();
        assert_eq!(left, [false, true, false, true, true]);
        assert!(!path("codex-programs.1.0").exists());
    }

    #[test]
    fn a_group_that_is_in_use_lingers_until_it_is_tidied() {
        let delegated = tempfile::tempdir().expect("a directory");
        let root = root(delegated.path());
        let group = root.directory.join("0");
        fs::create_dir_all(&group).expect("made");
        // A file keeps a directory as a process keeps a group.
        let held = group.join("held");
        fs::write(&held, "").expect("written");
        root.let_go(&group);
        for _ in 0..2 {
            assert!(root.is_untidy() && group.exists());
            root.tidy();
        }
        fs::remove_file(&held).expect("removed");
        assert!(root.is_untidy());
        root.tidy();
        assert!(!root.is_untidy() && !group.exists());
        fs::create_dir_all(&group).expect("made");
        root.let_go(&group);
        assert!(!root.is_untidy() && !group.exists(), "at once when nothing is in it");
    }
}
