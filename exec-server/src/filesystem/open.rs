//! How a file is opened, for the methods that go on with what was opened: here, or in a helper that hands it over.

use std::path::Path;

use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};

use super::path::local;
use super::write::open_to_update;
use super::{open_regular, open_to_replace};
use crate::protocol::filesystem::{OpenMode, OpenParams, ReadFileParams, WriteFileParams};
use crate::protocol::{RpcError, WirePath};

/// What is to be opened, and what for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ToOpen {
    pub(crate) path: WirePath,
    mode: OpenMode,
    /// False refuses a symlink anywhere in the path.
    follow: bool,
}

/// A file that is open, with its size where it is to be read (bytes).
pub(crate) type Opened = (OwnedFd, u64);

impl ToOpen {
    /// Opens it, with what it holds still in it. Blocks; looks at no sandbox.
    ///
    /// # Errors
    /// `-32600` for what is no regular file (devices may be written); the system's otherwise.
    pub(crate) fn open(&self) -> Result<Opened, RpcError> {
        let path: &Path = local(&self.path)?;
        match self.mode {
            OpenMode::Read => open_regular(path, self.follow),
            OpenMode::Replace => Ok((open_to_replace(path, self.follow)?, 0)),
            OpenMode::Update => Ok((open_to_update(path)?, 0)),
        }
    }

    /// Whether a name may come to exist by it.
    pub(crate) fn creates(&self) -> bool {
        matches!(self.mode, OpenMode::Replace | OpenMode::Update)
    }
}

impl From<&ReadFileParams> for ToOpen {
    fn from(params: &ReadFileParams) -> Self {
        let follow = params.follow_symlinks.unwrap_or(true);
        Self { path: params.path.clone(), mode: OpenMode::Read, follow }
    }
}

impl From<&WriteFileParams> for ToOpen {
    fn from(params: &WriteFileParams) -> Self {
        let follow = params.follow_symlinks.unwrap_or(true);
        Self { path: params.path.clone(), mode: OpenMode::Replace, follow }
    }
}

impl From<&OpenParams> for ToOpen {
    fn from(params: &OpenParams) -> Self {
        Self { path: params.path.clone(), mode: params.mode, follow: true }
    }
}
