//! Goes down and up a directory tree by directory handles, safe against names that change meanwhile.
//!
//! Only the lowest levels keep their handle open; on the way up a closed one is found again through `..`, and must be the
//! same directory as before. So depth costs neither stack nor file descriptors.

use rustix::fd::OwnedFd;
use rustix::ffi::CStr;
use rustix::fs::{Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::error::rpc_error;
use crate::protocol::RpcError;

/// Levels with an open handle.
pub(super) const OPEN_LEVELS: usize = 32;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What makes a directory the same one: device and inode.
pub(super) type Identity = (u64, u64);

/// The identity in these facts.
#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between machines")]
pub(super) fn identity(found: &Stat) -> Identity {
    (found.st_dev as u64, found.st_ino as u64)
}

/// A directory and those above it, up to where the tree begins.
pub(super) struct Descent {
    levels: Vec<(Option<OwnedFd>, Identity)>,
}

/// Opens a directory by its name in another one, not through a symlink.
pub(super) fn open_directory(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

impl Descent {
    /// Begins at an open directory.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(root: OwnedFd) -> Result<Self, Errno> {
        let mut descent = Self { levels: Vec::new() };
        descent.enter(root)?;
        Ok(descent)
    }

    /// Goes down to a directory opened from the current one.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn enter(&mut self, directory: OwnedFd) -> Result<Identity, Errno> {
        let identity = identity(&fstat(&directory)?);
        self.levels.push((Some(directory), identity));
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[far].0 = None;
        }
        Ok(identity)
    }

    /// The directory at hand.
    ///
    /// # Errors
    /// `-32603` when the descent has ended.
    pub(super) fn current(&self) -> Result<&OwnedFd, RpcError> {
        self.levels.last().and_then(|(directory, _)| directory.as_ref()).ok_or_else(changed)
    }

    /// Goes up one level, if there is one.
    ///
    /// # Errors
    /// `-32603` when the directory has been moved out of its parent meanwhile; the system's.
    pub(super) fn leave(&mut self) -> Result<(), RpcError> {
        let Some((Some(left), _)) = self.levels.pop() else { return Err(changed()) };
        if let Some((closed @ None, known)) = self.levels.last_mut() {
            let parent = open_directory(&left, c"..").map_err(rpc_error)?;
            if identity(&fstat(&parent).map_err(rpc_error)?) != *known {
                return Err(changed());
            }
            *closed = Some(parent);
        }
        Ok(())
    }
}

fn changed() -> RpcError {
    RpcError::internal("a directory of the tree was moved meanwhile; try again")
}
