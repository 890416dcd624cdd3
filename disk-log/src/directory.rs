//! A directory that only its owner may use, and what is done below it. No symbolic link is followed: every name is looked up by
//! itself, below an open directory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::error::LogError;

const OF_OWNER: Mode = Mode::RWXU;
const FILE_OF_OWNER: Mode = Mode::RUSR.union(Mode::WUSR);
/// Bytes of names that are asked for at once. Chosen for speed.
const NAMES: usize = 32 << 10;

/// An open directory. Its name is only for messages.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    name: String,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// To be read.
    Read,
    /// To be read and written, made if it is missing.
    Change,
    /// To be written; it must not exist.
    New,
}

impl Directory {
    /// Opens `path`, and makes it with what is missing above it. Above it, links are followed: a home may be one.
    ///
    /// # Errors
    /// Of the system; when it is a link, or belongs to somebody else.
    pub fn make(path: &Path) -> Result<Self, LogError> {
        let name = path.display().to_string();
        let last = path.components().next_back();
        let (Some(parent), Some(Component::Normal(last))) = (path.parent(), last) else {
            return Err(LogError::Unsafe { path: name, what: "is no directory of its own" });
        };
        make_all(parent)?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let fd = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(LogError::io("open", parent.display().to_string()))?;
        let parent = Self { fd, name: parent.display().to_string() };
        parent.child(&last.to_string_lossy())
    }

    /// Opens the directory of this name, made if it is missing.
    ///
    /// # Errors
    /// Of the system; when it is a link, or belongs to somebody else.
    pub fn child(&self, name: &str) -> Result<Self, LogError> {
        match rustix::fs::mkdirat(&self.fd, name, OF_OWNER) {
            Ok(()) | Err(Errno::EXIST) => self.existing(name),
            Err(errno) => Err(LogError::io("make the directory", self.path(name))(errno)),
        }
    }

    /// Opens the directory of this name.
    ///
    /// # Errors
    /// As [`Self::child`]; when there is none.
    pub(crate) fn existing(&self, name: &str) -> Result<Self, LogError> {
        let path = self.path(name);
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(LogError::io("open the directory", path.clone()))?;
        let stat = rustix::fs::fstat(&fd).map_err(LogError::io("look at", path.clone()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(LogError::Unsafe { path, what: "belongs to another user" });
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode.intersects(Mode::RWXG | Mode::RWXO) {
            rustix::fs::fchmod(&fd, OF_OWNER).map_err(LogError::io("close to others", path.clone()))?;
        }
        Ok(Self { fd, name: path })
    }

    /// Makes a directory that must not exist.
    pub(crate) fn new_child(&self, name: &str) -> Result<Self, LogError> {
        rustix::fs::mkdirat(&self.fd, name, OF_OWNER)
            .map_err(LogError::io("make the directory", self.path(name)))?;
        self.existing(name)
    }

    /// A name in it, for messages.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    /// Opens a file.
    pub(crate) fn file(&self, name: &str, how: How) -> Result<File, LogError> {
        // A pipe that somebody has put here must not be waited for.
        let always = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let flags = match how {
            How::Read => OFlags::RDONLY,
            How::Change => OFlags::RDWR | OFlags::CREATE,
            How::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let fd = rustix::fs::openat(&self.fd, name, always | flags, FILE_OF_OWNER)
            .map_err(LogError::io("open", self.path(name)))?;
        let stat = rustix::fs::fstat(&fd).map_err(LogError::io("look at", self.path(name)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(LogError::Unsafe { path: self.path(name), what: "is no ordinary file" });
        }
        Ok(fd.into())
    }

    /// All that a small file holds; nothing if there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        let mut file = match self.file(name, How::Read) {
            Err(error) if error.is_missing() => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| self.io("read", name, source))?;
        Ok(Some(bytes))
    }

    /// Makes a file with this content, or replaces it whole. `synced`: a power cut can't take it afterwards.
    pub(crate) fn write(&self, name: &str, content: &[u8], synced: bool) -> Result<(), LogError> {
        let beside = format!("{name}.new");
        let _ = self.remove_file(&beside);
        let mut file = self.file(&beside, How::New)?;
        let written = file.write_all(content).and_then(|()| if synced { file.sync_data() } else { Ok(()) });
        if let Err(source) = written {
            let _ = self.remove_file(&beside);
            return Err(self.io("write", name, source));
        }
        self.rename(&beside, self, name)
    }

    /// Moves what has this name to another directory.
    pub(crate) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), LogError> {
        rustix::fs::renameat(&self.fd, name, &to.fd, new).map_err(LogError::io("rename", self.path(name)))
    }

    pub(crate) fn remove_file(&self, name: &str) -> Result<(), LogError> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(LogError::io("remove", self.path(name)))
    }

    /// Removes a directory with the files in it. That it is gone already is no error.
    pub(crate) fn remove_directory(&self, name: &str) -> Result<(), LogError> {
        let inner = match self.existing(name) {
            Err(error) if error.is_missing() => return Ok(()),
            other => other?,
        };
        for file in inner.names()? {
            inner.remove_file(&file)?;
        }
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(LogError::io("remove the directory", self.path(name)))
    }

    /// The names in it that are UTF-8, which ours are, in no order.
    pub(crate) fn names(&self) -> Result<Vec<String>, LogError> {
        let fail = |errno| LogError::io("list", self.name.clone())(errno);
        // A descriptor of its own has a position of its own.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(fail)?;
        let mut buffer = Vec::with_capacity(NAMES);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(fail)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Bytes of the file of this name; 0 if there is none.
    pub(crate) fn size(&self, name: &str) -> u64 {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
    }

    pub(crate) fn io(&self, action: &'static str, name: &str, source: std::io::Error) -> LogError {
        LogError::Io { action, path: self.path(name), source }
    }

    /// Has the names in it survive a power cut, as far as the file system does that.
    pub(crate) fn sync(&self) {
        // Some can't; then there is nothing to be done.
        let _ = rustix::fs::fsync(self.fd.as_fd());
    }
}

/// Makes a directory and all above it that are missing, for their owner only.
fn make_all(path: &Path) -> Result<(), LogError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(OF_OWNER.as_raw_mode()).create(path);
    made.map_err(|source| LogError::Io {
        action: "make the directory",
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_its_owners_alone_and_what_was_open_is_closed_to_others() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a/b/state");
        let state = Directory::make(&path).expect("a directory");
        state.write("file", b"text", true).expect("a file");
        for (path, expected) in
            [(path.clone(), 0o700), (place.path().join("a"), 0o700), (path.join("file"), 0o600)]
        {
            assert_eq!(mode(&path), expected, "{}", path.display());
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("a mode");
        Directory::make(&path).expect("a directory");
        assert_eq!(mode(&path), 0o700);
        let mut names = state.names().expect("names");
        names.sort();
        assert_eq!(names, ["file"]);
    }

    #[test]
    fn no_symbolic_link_is_followed_and_no_pipe_waited_for() {
        let place = tempfile::tempdir().expect("a directory");
        let elsewhere = place.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("a directory");
        std::fs::write(elsewhere.join("secret"), "untouched").expect("a file");
        symlink(&elsewhere, place.path().join("link")).expect("a link");
        assert!(Directory::make(&place.path().join("link")).is_err());
        let state = Directory::make(&place.path().join("state")).expect("a directory");
        for name in ["directory", "file"] {
            symlink(&elsewhere, place.path().join("state").join(name)).expect("a link");
        }
        symlink(elsewhere.join("secret"), place.path().join("state/start")).expect("a link");
        assert!(state.child("directory").is_err());
        assert!(state.read("start").is_err());
        for how in [How::Read, How::Change, How::New] {
            assert!(state.file("start", how).is_err(), "{how:?}");
        }
        // A link of the name is replaced, not written through.
        state.write("start", b"mine", false).expect("a file");
        state.remove_directory("directory").expect_err("a link is no directory");
        assert_eq!(std::fs::read_to_string(elsewhere.join("secret")).expect("text"), "untouched");
        rustix::fs::mkfifoat(&state.fd, "pipe", FILE_OF_OWNER).expect("a pipe");
        assert!(matches!(state.file("pipe", How::Read), Err(LogError::Unsafe { .. })));
    }
}
