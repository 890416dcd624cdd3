//! What can go wrong, and the ids of logs.

use std::fmt;
use std::io;
use std::str::FromStr;

use uuid::Uuid;

/// Names one log, unguessably: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(Uuid);

impl LogId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for LogId {
    type Err = LogError;

    /// Only the spelling that [`fmt::Display`] gives, since it names a directory.
    fn from_str(text: &str) -> Result<Self, LogError> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = Uuid::try_parse(text).ok().filter(|_| plain);
        id.map(Self).ok_or_else(|| LogError::NoId(text.to_owned()))
    }
}

/// Why a log can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file; below the state directory, relative to it.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such log, or not any more.
    #[error("there is no log {0}; logs of ended programs are removed in time")]
    Unknown(LogId),
    /// Not an id.
    #[error("{0:?} is not the id of a log, which has 32 hexadecimal digits")]
    NoId(String),
    /// A directory that others may write to, or own.
    #[error("{path} {what}; logs are kept only where nobody else may write")]
    Unsafe {
        /// The directory.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file that says of itself what this version does not know.
    #[error("{0} was written by a newer version of this program")]
    Newer(String),
    /// The start record is damaged: nothing tells what the log belongs to.
    #[error("the log {0} is damaged: its start record can't be read")]
    NoStart(LogId),
}

impl LogError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<String>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { action, path, source: errno.into() }
    }

    /// What the system said, if it did.
    #[must_use]
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Io { source, .. } => rustix::io::Errno::from_io_error(source),
            _ => None,
        }
    }

    /// The disk, or this user's part of it, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use rustix::io::Errno;
        matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.errno() == Some(rustix::io::Errno::NOENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_names_nothing_else() {
        let id = LogId::random();
        assert_eq!(id.to_string().parse::<LogId>().expect("an id"), id);
        for wrong in ["", "..", "../../etc/passwd", "0123", &id.to_string().to_uppercase(), &format!("{id}/")]
        {
            let parsed = wrong.parse::<LogId>();
            // All digits: upper case is the same then.
            assert!(parsed.is_err() || *wrong == id.to_string(), "{wrong}");
        }
    }
}
