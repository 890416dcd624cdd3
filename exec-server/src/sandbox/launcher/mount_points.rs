//! Finds, or makes, what a view's mounts are mounted on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::layout::SHARED_MEMORY;
use super::mounts;

/// Of a place in a root of one's own.
pub(super) const MODE: Mode = Mode::from_raw_mode(0o755);

/// Where a view's mounts go, in the root that it is built in.
pub(super) enum MountPoints<'r> {
    /// They are there, but for those in the program's own shared memory.
    Existing(BorrowedFd<'r>),
    /// The root is new: what is missing is made.
    Made(BorrowedFd<'r>),
}

impl MountPoints<'_> {
    /// What is at a path. Where it may be made, it is, empty and of a kind.
    pub(super) fn get(&self, path: &Path, kind: FileType) -> io::Result<OwnedFd> {
        let (root, makes) = match self {
            Self::Existing(root) => (root, path.starts_with(SHARED_MEMORY)),
            Self::Made(root) => (root, true),
        };
        let below = below_root(path);
        match mounts::open_below(root, below) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && makes => {
                make(root, below, kind, MODE)?;
                mounts::open_below(root, below)
            }
            opened => opened,
        }
    }

    /// Attaches a tree at its path.
    pub(super) fn attach(&self, path: &Path, tree: &OwnedFd) -> io::Result<()> {
        mounts::attach(tree, self.get(path, mounts::kind(tree)?)?)
    }
}

/// A path as it is named from the root.
pub(super) fn below_root(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(below) if below.as_os_str().is_empty() => Path::new("."),
        Ok(below) => below,
        Err(_) => path,
    }
}

/// Makes an empty directory or file to mount on, and the directories on its way.
pub(super) fn make(root: impl AsFd, path: &Path, kind: FileType, mode: Mode) -> io::Result<()> {
    let is_directory = kind == FileType::Directory;
    let directories = if is_directory { path } else { path.parent().unwrap_or(Path::new("")) };
    let mut so_far = PathBuf::new();
    for name in directories {
        so_far.push(name);
        match rustix::fs::mkdirat(root.as_fd(), &so_far, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !is_directory {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(root, path, flags, Mode::from_raw_mode(0o444))?;
    }
    Ok(())
}
