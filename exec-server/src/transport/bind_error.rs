//! Why an address can't be listened at.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Room for a socket's path (unix(7), `sun_path` without its NUL). Fixed by the kernel.
const LONGEST_PATH: usize = 107;

/// Why a listener can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The TCP socket can't be bound.
    #[error("cannot listen on ws://{address}: {source}")]
    Tcp {
        /// The address that could not be listened on.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The Unix socket can't be bound.
    #[error("cannot listen on unix://{}: {source}{}", path.display(), hint(path, source))]
    Unix {
        /// The path that could not be listened on.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A live server has the socket file.
    #[error("another server listens on unix://{}; stop it or choose another path", .0.display())]
    InUse(PathBuf),
    /// Something else stands in the way.
    #[error("{} exists and is not a socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// What was handed over is nothing to accept connections on.
    #[error("the socket that was handed over for fd:// can't be listened on: {0}")]
    Inherited(io::Error),
    /// stdio has one connection and no listener.
    #[error("stdio is not listened on; serve its one connection instead")]
    Stdio,
}

/// What to do about it, where that is known.
fn hint(path: &Path, source: &io::Error) -> String {
    match (source.raw_os_error(), path.parent()) {
        (Some(libc::ENOENT), Some(directory)) if !directory.exists() => {
            format!("; make the directory {} first, or choose another path", directory.display())
        }
        (Some(libc::ENAMETOOLONG), _) => {
            format!("; a socket's path may have up to {LONGEST_PATH} bytes")
        }
        _ => String::new(),
    }
}
