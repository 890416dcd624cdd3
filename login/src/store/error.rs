//! Why a store fails, in the words of released programs.

use super::locks::LockError;
use crate::credentials::DocumentError;
use std::path::PathBuf;

/// Why credentials can't be loaded, saved or removed. The texts are those of released programs where those are known.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `auth.json` is there and can't be read.
    #[error("failed to read CLI auth from file {path:?}: {source}")]
    ReadFile {
        /// Path of `auth.json`.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// `auth.json` does not hold credentials.
    #[error("failed to deserialize CLI auth from file: {0}")]
    BadFile(DocumentError),
    /// `auth.json` can't be written.
    #[error("failed to write CLI auth to file {path:?}: {source}")]
    WriteFile {
        /// Path of `auth.json`.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// `auth.json` can't be removed.
    #[error("failed to remove CLI auth file {path:?}: {source}")]
    RemoveFile {
        /// Path of `auth.json`.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The keyring does not answer, or refuses.
    #[error("failed to load CLI auth from keyring: {0}")]
    LoadKeyring(String),
    /// The keyring's entry does not hold credentials.
    #[error("failed to deserialize CLI auth from keyring: {0}")]
    BadKeyring(DocumentError),
    /// The keyring does not take the entry.
    #[error("failed to write OAuth tokens to keyring: {0}")]
    SaveKeyring(String),
    /// The keyring does not remove the entry.
    #[error("failed to delete auth from keyring: {0}")]
    RemoveKeyring(String),
    /// Another process is writing and does not end.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Credentials can't be put in words. Can't happen with credentials that were read.
    #[error("failed to serialize CLI auth: {0}")]
    Serialize(DocumentError),
}
