//! Holds the places of names that must not come to exist: an empty directory each, that is mounted over inside and
//! removed when nobody needs it any more. Directories that are missing on the way are made, and removed, with it.
//!
//! Each has the modification time [`PLACEHOLDER_TIME`] and a shared lock of each server that holds it. So the next server that
//! needs one that a killed server left behind takes it over, and whoever lets go last removes it.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, flock,
    fstat, mkdirat, openat, openat2, statat, unlinkat, utimensat,
};

use super::lookups::PLACEHOLDER_TIME;

/// The places that this server made or took over.
static MADE: LazyLock<Mutex<Places>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct Places {
    made: HashMap<PathBuf, Made>,
    /// Directories that were made on the way to one, by device and inode. Only these are removed with it: a program can give
    /// any directory of its own the time of a placeholder.
    between: HashSet<(u64, u64)>,
}

#[derive(Debug)]
struct Made {
    /// How many hold it.
    count: usize,
    /// The directory that it was made in, whatever name leads there by now. A program that may write the name's way could
    /// put a symlink there.
    parent: OwnedFd,
    /// The place itself, locked; none where there are no locks.
    lock: Option<OwnedFd>,
}

/// Places held until this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    places: Vec<PathBuf>,
}

fn places() -> MutexGuard<'static, Places> {
    MADE.lock()
}

impl Held {
    /// Makes the places, or shares those that this server has made. What exists by now needs none, and neither does a name
    /// that nobody can create with this user's rights.
    ///
    /// # Errors
    /// When a directory can't be made, by name.
    pub(super) fn new(places: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut held = Self::default();
        for place in places {
            held.hold(place).map_err(|error| (place.clone(), error))?;
        }
        Ok(held)
    }

    fn hold(&mut self, place: &Path) -> io::Result<()> {
        let mut places = places();
        if let Some(made) = places.made.get_mut(place) {
            made.count += 1;
        } else {
            let Some((parent, lock)) = places.make(place)? else { return Ok(()) };
            places.made.insert(place.to_owned(), Made { count: 1, parent, lock });
        }
        self.places.push(place.to_owned());
        Ok(())
    }

    /// Whether a place is held.
    pub(super) fn holds(&self, place: &Path) -> bool {
        self.places.iter().any(|held| held == place)
    }

    /// A directory that was made on the way to a place is somebody's from now on, and stays.
    pub(super) fn leave(&self, directory: &Path) {
        let is_between = |place: &PathBuf| place.starts_with(directory) && place != directory;
        if !self.places.iter().any(is_between) {
            return;
        }
        if let Ok(directory) = open(directory)
            && places().is_between(&directory)
        {
            set_time(&directory, Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW });
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Never lets go: something that outlives its program still relies on the places.
    pub(crate) fn keep(mut self) {
        self.places.clear();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut places = places();
        // What was made on the way to one may hold another.
        for place in self.places.iter().rev() {
            let Some(held) = places.made.get_mut(place) else { continue };
            held.count -= 1;
            if held.count == 0
                && let Some(held) = places.made.remove(place)
                && let Ok(name) = last_name(place)
            {
                places.remove(held, name);
            }
        }
    }
}

impl Places {
    /// Makes a place and what is missing on its way: the directory that it is in, and its lock. None if it needs none.
    fn make(&mut self, place: &Path) -> io::Result<Option<(OwnedFd, Option<OwnedFd>)>> {
        let name = last_name(place)?;
        let Some(parent) = self.directory(place.parent().ok_or(ErrorKind::InvalidInput)?)? else {
            return Ok(None);
        };
        // Another server may remove it between two of these steps, and then it is made anew.
        for _ in 0..100 {
            if !self.make_in(&parent, name)? {
                return Ok(None);
            }
            let lock = match lock(&parent, name) {
                Ok(lock) => lock,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let is_locked = flock(&lock, FlockOperation::NonBlockingLockShared).is_ok();
            if statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| is_same(&found, &lock)) {
                return Ok(Some((parent, is_locked.then_some(lock))));
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// A directory, made if it is missing; none if nobody can.
    fn directory(&mut self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match open(path) {
            Err(rustix::io::Errno::NOENT) => {}
            opened => return Ok(Some(opened?)),
        }
        let Some(parent) = self.directory(path.parent().ok_or(ErrorKind::InvalidInput)?)? else {
            return Ok(None);
        };
        if !self.make_in(&parent, last_name(path)?)? {
            return Ok(None);
        }
        let made = open(path)?;
        self.between.extend(identity(&made));
        Ok(Some(made))
    }

    /// Makes a marked directory, or finds one; false if it is somebody's, or can't be made by anybody.
    fn make_in(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
        let is_between = self.is_between(parent);
        match mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(io::Error::from) {
            Ok(()) => {
                utimensat(parent, name, &times(PLACEHOLDER), AtFlags::SYMLINK_NOFOLLOW)?;
                if is_between {
                    set_time(parent, PLACEHOLDER);
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| is_mark(&found)))
            }
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(false),
            // Its owner could let it be made, and so could an administrator.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let user = rustix::process::geteuid();
                if user.is_root() || fstat(parent)?.st_uid == user.as_raw() { Err(error) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a directory was made on the way to a place, and nobody else has put anything in it.
    fn is_between(&self, directory: &OwnedFd) -> bool {
        let is_made = || identity(directory).is_some_and(|identity| self.between.contains(&identity));
        fstat(directory).is_ok_and(|found| is_mark(&found)) && is_made()
    }

    /// Removes a place, and what was made on its way as far as nothing else is in there. Somebody may have put something in
    /// it; then it is theirs. Another server's stays as long as that needs it.
    fn remove(&mut self, held: Made, name: &OsStr) {
        let is_removed = |parent: &OwnedFd, name: &OsStr, lock: Option<&OwnedFd>| {
            let is_free = |lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            lock.is_none_or(is_free) && unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok()
        };
        let mut way = held.parent;
        let mut is_empty = self.is_between(&way);
        if !is_removed(&way, name, held.lock.as_ref()) {
            return;
        }
        while is_empty {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(above) = openat(&way, c"..", flags, Mode::empty()) else { return };
            let Some(name) = name_in(&above, &way) else { return };
            let Ok(lock) = lock(&above, &name) else { return };
            is_empty = self.is_between(&above);
            if !is_removed(&above, &name, Some(&lock)) {
                return set_time(&way, PLACEHOLDER);
            }
            if let Some(gone) = identity(&way) {
                self.between.remove(&gone);
            }
            if is_empty {
                set_time(&above, PLACEHOLDER);
            }
            way = above;
        }
    }
}

/// Opens a place for locks.
fn lock(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens a directory without following any symlink: there was none when the place was looked up.
fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path, flags, Mode::empty(), resolve)
}

const PLACEHOLDER: Timespec = Timespec { tv_sec: PLACEHOLDER_TIME, tv_nsec: 0 };

fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

fn set_time(directory: &OwnedFd, time: Timespec) {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let _ = utimensat(CWD, path, &times(time), AtFlags::empty());
}

fn is_mark(found: &Stat) -> bool {
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    is_directory && (found.st_mtime, found.st_mtime_nsec) == (PLACEHOLDER_TIME, 0)
}

fn identity(directory: &OwnedFd) -> Option<(u64, u64)> {
    fstat(directory).ok().map(|found| (found.st_dev, found.st_ino))
}

fn is_same(found: &Stat, opened: impl AsFd) -> bool {
    fstat(opened).is_ok_and(|opened| (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino))
}

/// The name of an opened directory in the one above it, as it is now.
fn name_in(above: &OwnedFd, directory: &OwnedFd) -> Option<OsString> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
    let name = path.file_name()?.to_owned();
    statat(above, &name, AtFlags::SYMLINK_NOFOLLOW).ok().filter(|found| is_same(found, directory))?;
    Some(name)
}

fn last_name(place: &Path) -> io::Result<&OsStr> {
    place.file_name().ok_or_else(|| ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ground(tempfile::TempDir);

    impl Ground {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }
        fn at(&self, name: &str) -> PathBuf {
            self.0.path().canonicalize().expect("it is there").join(name)
        }
        fn make(&self, name: &str) {
            std::fs::create_dir_all(self.at(name)).expect("a directory");
        }
    }

    #[test]
    fn a_place_is_made_and_removed_where_it_was_looked_up_and_nowhere_else() {
        let ground = Ground::new();
        ground.make("work");
        ground.make("outside");
        let place = [ground.at("work/.agents")];
        let held = Held::new(&place).expect("held");
        assert!(place[0].is_dir());
        // What a program of another sandbox may do: another directory under the same name.
        std::fs::rename(ground.at("work"), ground.at("moved")).expect("renamed");
        std::os::unix::fs::symlink(ground.at("outside"), ground.at("work")).expect("a link");
        ground.make("outside/.agents");
        drop(held);
        assert!(ground.at("outside/.agents").is_dir(), "what is outside stays");
        assert!(!ground.at("moved/.agents").exists(), "what was made is removed");
        std::fs::remove_dir(ground.at("outside/.agents")).expect("removed");
        Held::new(&place).expect_err("the way leads over a symlink");
        assert!(!ground.at("outside/.agents").exists());
    }

    #[test]
    fn what_is_missing_on_the_way_comes_and_goes_with_it_unless_somebody_uses_it() {
        let ground = Ground::new();
        let places = ["a/b/one", "a/b/two", "a/c"].map(|name| ground.at(name));
        let first = Held::new(&places[..1]).expect("held");
        let second = Held::new(&places).expect("held");
        drop(first);
        assert!(places.iter().all(|place| place.is_dir()));
        drop(second);
        assert!(!ground.at("a").exists());
        // A file of a program's, and a directory that was asked for.
        for (used, stays) in [("a/b/file", "a/b"), ("a", "a")] {
            let held = Held::new(&places).expect("held");
            if used == "a" {
                held.leave(&ground.at(used))
            } else {
                std::fs::write(ground.at(used), "").expect("written")
            }
            drop(held);
            assert!(ground.at(stays).is_dir(), "{used}");
            assert!(!ground.at("a/b/one").exists() && !ground.at("a/c").exists());
            std::fs::remove_dir_all(ground.at("a")).expect("removed");
        }
    }

    #[test]
    fn no_directory_goes_that_was_not_made_on_the_way_whatever_its_time_says() {
        let ground = Ground::new();
        ground.make("w");
        let held = Held::new(&[ground.at("w/.agents")]).expect("held");
        // What a program may do to its workspace, so that it looks like something that was made for a placeholder.
        utimensat(CWD, ground.at("w"), &times(PLACEHOLDER), AtFlags::empty()).expect("set");
        drop(held);
        assert!(!ground.at("w/.agents").exists() && ground.at("w").is_dir());
    }

    #[test]
    fn what_a_killed_server_left_behind_is_taken_over_and_what_another_one_holds_is_left_to_it() {
        let ground = Ground::new();
        ground.make("w");
        let place = [ground.at("w/.agents")];
        Held::new(&place).expect("held").keep();
        let left = places().made.remove(&place[0]).expect("made");
        // The lock is there as long as its server.
        let held = Held::new(&place).expect("held");
        assert!(held.holds(&place[0]));
        drop(held);
        assert!(place[0].is_dir(), "the other server holds it");
        drop(left);
        drop(Held::new(&place).expect("held"));
        assert!(!place[0].exists(), "nobody holds it");
        ground.make("w/.agents");
        assert!(Held::new(&place).expect("not held").is_empty(), "somebody else's");
        assert!(place[0].is_dir());
    }
}
