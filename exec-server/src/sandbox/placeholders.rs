//! Holds the places of names that must not come to exist: an empty directory each, that is mounted over inside and
//! removed when nobody needs it any more. Directories that are missing on the way are made, and removed, with it.
//!
//! Each has the modification time [`PLACEHOLDER_TIME`] and a shared lock of each server that holds it. So the next server that
//! needs one that a killed server left behind takes it over, and whoever lets go last removes it.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, flock,
    fstat, mkdirat, openat, openat2, statat, unlinkat, utimensat,
};

use super::place::PLACEHOLDER_TIME;

/// The places that this server made or took over.
static MADE: LazyLock<Mutex<HashMap<PathBuf, Made>>> = LazyLock::new(Mutex::default);

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

fn made() -> MutexGuard<'static, HashMap<PathBuf, Made>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut made = made();
        if let Some(made) = made.get_mut(place) {
            made.count += 1;
        } else {
            let Some((parent, lock)) = make(place)? else { return Ok(()) };
            made.insert(place.to_owned(), Made { count: 1, parent, lock });
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
        if self.places.iter().any(is_between) {
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let _ = utimensat(CWD, directory, &times(now), AtFlags::SYMLINK_NOFOLLOW);
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
        let mut made = made();
        // What was made on the way to one may hold another.
        for place in self.places.iter().rev() {
            let Some(held) = made.get_mut(place) else { continue };
            held.count -= 1;
            if held.count == 0
                && let Some(held) = made.remove(place)
                && let Ok(name) = last_name(place)
            {
                held.remove(name);
            }
        }
    }
}

impl Made {
    fn remove(self, name: &std::ffi::OsStr) {
        let is_free = |lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Another server's, as long as that needs it.
        if self.lock.as_ref().is_none_or(is_free) {
            remove(self.parent, name);
        }
    }
}

/// Removes a directory, and what was made on the way to it as far as nothing else is in there. Somebody may have put
/// something in it; then it is theirs.
fn remove(parent: OwnedFd, name: &std::ffi::OsStr) {
    let is_ours = is_marked(&parent);
    if unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() || !is_ours {
        return;
    }
    let mut way = parent;
    loop {
        let Ok(above) =
            openat(&way, c"..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        else {
            return;
        };
        let (is_ours, Some(name)) = (is_marked(&above), name_in(&above, &way)) else { return };
        // It may be a place of its own, too.
        let is_free = lock(&above, &name)
            .is_ok_and(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        if !is_free || unlinkat(&above, &*name, AtFlags::REMOVEDIR).is_err() {
            return mark(&way);
        }
        if !is_ours {
            return;
        }
        way = above;
    }
}

/// Makes a place and what is missing on its way: the directory that it is in, and its lock. None if it needs none.
fn make(place: &Path) -> io::Result<Option<(OwnedFd, Option<OwnedFd>)>> {
    let name = last_name(place)?;
    let Some(parent) = directory(place.parent().ok_or(ErrorKind::InvalidInput)?)? else { return Ok(None) };
    // Another server may remove it between two of these steps, and then it is made anew.
    for _ in 0..100 {
        if !make_in(&parent, name)? {
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

/// Opens a place for locks.
fn lock(parent: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// A directory, made if it is missing; none if nobody can. Opened without following any symlink: there was none when the
/// place was looked up.
fn directory(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = || openat2(CWD, path, flags, Mode::empty(), resolve);
    match open() {
        Err(rustix::io::Errno::NOENT) => {}
        opened => return Ok(Some(opened?)),
    }
    let Some(parent) = directory(path.parent().ok_or(ErrorKind::InvalidInput)?)? else { return Ok(None) };
    Ok(if make_in(&parent, last_name(path)?)? { Some(open()?) } else { None })
}

/// Makes a marked directory, or finds one; false if it is somebody's, or can't be made by anybody.
fn make_in(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<bool> {
    let was_marked = is_marked(parent);
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(io::Error::from) {
        Ok(()) => {
            utimensat(parent, name, &times(placeholder_time()), AtFlags::SYMLINK_NOFOLLOW)?;
            if was_marked {
                mark(parent);
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

fn placeholder_time() -> Timespec {
    Timespec { tv_sec: PLACEHOLDER_TIME, tv_nsec: 0 }
}

fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

fn mark(directory: &OwnedFd) {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let _ = utimensat(CWD, path, &times(placeholder_time()), AtFlags::empty());
}

fn is_marked(directory: &OwnedFd) -> bool {
    fstat(directory).is_ok_and(|found| is_mark(&found))
}

fn is_mark(found: &Stat) -> bool {
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    is_directory && (found.st_mtime, found.st_mtime_nsec) == (PLACEHOLDER_TIME, 0)
}

fn is_same(found: &Stat, opened: impl AsFd) -> bool {
    fstat(opened).is_ok_and(|opened| (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino))
}

/// The name of an opened directory in the one above it, as it is now.
fn name_in(above: &OwnedFd, directory: &OwnedFd) -> Option<std::ffi::OsString> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
    let name = path.file_name()?.to_owned();
    statat(above, &name, AtFlags::SYMLINK_NOFOLLOW).ok().filter(|found| is_same(found, directory))?;
    Some(name)
}

fn last_name(place: &Path) -> io::Result<&std::ffi::OsStr> {
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
    fn what_a_killed_server_left_behind_is_taken_over_and_what_another_one_holds_is_left_to_it() {
        let ground = Ground::new();
        ground.make("w");
        let place = [ground.at("w/.agents")];
        Held::new(&place).expect("held").keep();
        let left = made().remove(&place[0]).expect("made");
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
