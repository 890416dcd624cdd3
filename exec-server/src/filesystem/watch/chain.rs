//! The inotify watches for one set of paths: every name on the way to each, through symlinks too.
//!
//! A directory is watched before the name in it is looked at. So a change between two steps is already in the queue,
//! and no change between the check and the watch is missed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, FileType, readlinkat, statat, statfs};
use rustix::io::Errno;

use super::super::close_later::close_later;
use super::super::local_mounts::is_local_kind;

/// Symlinks in one path, as many as the kernel follows.
const LINKS: u32 = 40;

/// A name in a directory comes, goes or is replaced, or the directory itself goes.
const IN_DIRECTORY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);

/// A file's content changes. Its removal shows as a change of its name.
const OF_FILE: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::DONT_FOLLOW).union(WatchFlags::MASK_ADD);

/// Ends that concern the watch itself, whatever the name.
const OF_ITSELF: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::IGNORED)
    .union(ReadFlags::QUEUE_OVERFLOW)
    .union(ReadFlags::MODIFY);

/// An inotify descriptor and what is relevant about each of its watches.
pub(in crate::filesystem) struct Watches {
    /// Taken out only to be dropped elsewhere: closing waits for the kernel's readers.
    inotify: Option<OwnedFd>,
    names: HashMap<i32, HashSet<OsString>>,
}

/// Where the way to a path ends.
enum End {
    /// At a name that does not exist, or below what is no directory.
    Missing,
    /// At something that does: its path without symlinks, and its kind.
    Exists(PathBuf, FileType),
}

impl Watches {
    /// # Errors
    /// The system's, for example too many inotify instances.
    pub(in crate::filesystem) fn new() -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify: Some(inotify), names: HashMap::new() })
    }

    /// Watches for a path to appear. None when it exists, even as a dangling symlink, or cannot be watched.
    pub(in crate::filesystem) fn add_missing(&mut self, path: &Path) -> Option<()> {
        match self.follow(path, false)? {
            End::Missing => Some(()),
            End::Exists(..) => None,
        }
    }

    /// Watches for a path to go or, if it is a file, to be written. None when it does not exist or cannot be watched.
    pub(in crate::filesystem) fn add_present(&mut self, path: &Path) -> Option<()> {
        match self.follow(path, true)? {
            End::Missing => None,
            End::Exists(path, FileType::RegularFile) => {
                let watch = inotify::add_watch(self.descriptor()?, &path, OF_FILE).ok()?;
                self.names.entry(watch).or_default();
                Some(())
            }
            End::Exists(..) => Some(()),
        }
    }

    /// Goes the way from the root, watching each name. None when some place cannot be watched.
    fn follow(&mut self, path: &Path, follow_last: bool) -> Option<End> {
        let mut way = names(path);
        let mut at = PathBuf::from("/");
        let mut kind = FileType::Directory;
        let mut links = 0;
        while let Some(name) = way.pop_front() {
            let is_last = way.is_empty();
            if kind != FileType::Directory {
                return Some(End::Missing);
            }
            if name == ".." {
                at.pop();
                continue;
            }
            self.watch_name(&at, &name)?;
            let next = at.join(&name);
            kind = match statat(CWD, &next, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => FileType::from_raw_mode(found.st_mode),
                Err(Errno::NOENT | Errno::NOTDIR) => return Some(End::Missing),
                Err(_) => return None,
            };
            if kind != FileType::Symlink || (is_last && !follow_last) {
                at = next;
                continue;
            }
            links += 1;
            if links > LINKS {
                return None;
            }
            let target = readlinkat(CWD, &next, Vec::new()).ok()?;
            let target = Path::new(OsStr::from_bytes(target.to_bytes())).to_path_buf();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                way.push_front(name);
            }
            kind = FileType::Directory;
        }
        Some(End::Exists(at, kind))
    }

    fn watch_name(&mut self, directory: &Path, name: &OsStr) -> Option<()> {
        #[allow(clippy::unnecessary_cast, reason = "the field's type differs between machines")]
        let magic = statfs(directory).ok()?.f_type as u32;
        // Elsewhere a change by the kernel, a daemon or another machine makes no event.
        if !is_local_kind(u64::from(magic)) {
            return None;
        }
        let watch = inotify::add_watch(self.descriptor()?, directory, IN_DIRECTORY).ok()?;
        self.names.entry(watch).or_default().insert(name.to_owned());
        Some(())
    }

    fn descriptor(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    /// Takes what has happened; true when something relevant is among it.
    ///
    /// # Errors
    /// `EAGAIN` when there is no more for now; others when nothing can be seen any more.
    pub(in crate::filesystem) fn read_changes(&self) -> Result<bool, Errno> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut events = inotify::Reader::new(self.descriptor().ok_or(Errno::BADF)?, &mut buffer);
        loop {
            let event = events.next()?;
            if event.events().intersects(OF_ITSELF) {
                return Ok(true);
            }
            let named = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let watched = self.names.get(&event.wd());
            if named.is_some_and(|name| watched.is_some_and(|names| names.contains(name))) {
                return Ok(true);
            }
        }
    }
}

impl AsRawFd for Watches {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        if let Some(inotify) = self.inotify.take() {
            close_later(inotify);
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}
