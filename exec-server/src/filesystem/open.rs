//! How a file is opened, for the methods that go on with what was opened: here, or in a helper that hands it over.

use std::path::Path;

use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};

use super::path::local;
use super::write::{Existing, open_to_update};
use super::{open_regular, open_to_write};
use crate::protocol::filesystem::{OpenMode, OpenParams, ReadFileParams, WriteFileParams, WriteMode};
use crate::protocol::{RpcError, WirePath};

/// What is to be opened, and what for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ToOpen {
    pub(crate) path: WirePath,
    purpose: Purpose,
    /// False refuses a symlink anywhere in the path.
    follow: bool,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Purpose {
    Read,
    Replace,
    Update,
    Append,
    /// To be written to if it is new.
    Create,
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
        let existing = match self.purpose {
            Purpose::Read => return open_regular(path, self.follow),
            Purpose::Update => return Ok((open_to_update(path)?, 0)),
            Purpose::Replace => Existing::Kept,
            Purpose::Append => Existing::Appended,
            Purpose::Create => Existing::Refused,
        };
        Ok((open_to_write(path, self.follow, existing)?, 0))
    }

    /// Whether a name may come to exist by it.
    pub(crate) fn creates(&self) -> bool {
        !matches!(self.purpose, Purpose::Read)
    }
}

impl From<&ReadFileParams> for ToOpen {
    fn from(params: &ReadFileParams) -> Self {
        let follow = params.follow_symlinks.unwrap_or(true);
        Self { path: params.path.clone(), purpose: Purpose::Read, follow }
    }
}

impl From<&WriteFileParams> for ToOpen {
    fn from(params: &WriteFileParams) -> Self {
        let follow = params.follow_symlinks.unwrap_or(true);
        let purpose = match params.mode {
            WriteMode::Truncate => Purpose::Replace,
            WriteMode::Append => Purpose::Append,
            WriteMode::Exclusive => Purpose::Create,
        };
        Self { path: params.path.clone(), purpose, follow }
    }
}

impl From<&OpenParams> for ToOpen {
    fn from(params: &OpenParams) -> Self {
        let purpose = match params.mode {
            OpenMode::Read => Purpose::Read,
            OpenMode::Replace => Purpose::Replace,
            OpenMode::Update => Purpose::Update,
        };
        Self { path: params.path.clone(), purpose, follow: true }
    }
}
