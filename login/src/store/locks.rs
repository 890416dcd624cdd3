//! The two lock files that every writer of credentials takes, in this order (login.md 2.4).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Taken first, waiting without limit.
const FIRST: &str = "auth.lock";
/// Taken second, for the write itself.
const SECOND: &str = "auth.json.lock";
/// The longest wait for the second lock. Fixed by the wire.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a lock is tried that is waited for with a limit.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Why the locks can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds the lock of the write for too long.
    #[error("credential commit lock timed out")]
    TimedOut,
    /// There is no home directory, and none can be made.
    #[error("can't make the directory {path:?}: {source}")]
    Home {
        /// The home directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The lock file can't be made or locked.
    #[error("can't lock {path:?}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Both locks, held until dropped. The files stay.
#[derive(Debug)]
pub(super) struct Locks {
    // Dropped in this order: the last taken goes first.
    _second: File,
    _first: File,
}

impl Locks {
    /// Takes both locks of a home directory, which is made if it is missing.
    pub(super) fn take(home: &Path) -> Result<Self, LockError> {
        std::fs::create_dir_all(home).map_err(|source| LockError::Home { path: home.to_owned(), source })?;
        let path = home.join(FIRST);
        let first = open(&path)?;
        while let Err(source) = first.lock() {
            if is_unknown(&source, &path) {
                break;
            }
            // A signal ends the wait, but nobody asked for that.
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(LockError::Io { path, source });
            }
        }
        let second = poll(&home.join(SECOND), COMMIT_TIMEOUT)?;
        Ok(Self { _second: second, _first: first })
    }
}

fn poll(path: &Path, limit: Duration) -> Result<File, LockError> {
    let file = open(path)?;
    let start = Instant::now();
    while !try_lock(&file, path)? {
        if start.elapsed() >= limit {
            return Err(LockError::TimedOut);
        }
        std::thread::sleep(POLL);
    }
    Ok(file)
}

/// Opens a lock file, making it for its owner alone if it is missing: whoever may open it can keep everybody waiting.
pub(crate) fn open(path: &Path) -> Result<File, LockError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| LockError::Io { path: path.to_owned(), source })
}

/// Whether the lock was free and is ours now.
pub(crate) fn try_lock(file: &File, path: &Path) -> Result<bool, LockError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if is_unknown(&error, path) => Ok(true),
        Err(TryLockError::Error(source)) => Err(LockError::Io { path: path.to_owned(), source }),
    }
}

/// Whether the file system knows no locks, as some network file systems: then we go on without, since nothing could be
/// stored at all otherwise. Files are replaced whole all the same; only of two writers at once one is forgotten.
fn is_unknown(error: &io::Error, path: &Path) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    let unknown = [Errno::NOSYS, Errno::NOLCK, Errno::NOTSUP].map(|errno| Some(errno.raw_os_error()));
    let is_unknown = unknown.contains(&errno);
    if is_unknown {
        tracing::warn!(?path, %error, "this file system can't lock files; going on without");
    }
    is_unknown
}
