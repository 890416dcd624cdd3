//! `fs/writeFile` (10.2), and how a file is opened to be replaced.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::error::{not_a_file, rpc_error};
use super::path::open_parent;
use crate::protocol::filesystem::WriteFileParams;
use crate::protocol::{RpcError, bytes, encode::Empty};

/// Before the umask.
pub(super) const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

/// What a file is to hold.
///
/// # Errors
/// `-32600` for bad base64.
pub(crate) fn content(params: &WriteFileParams) -> Result<Vec<u8>, RpcError> {
    bytes::decode(&params.data_base64).map_err(|error| {
        RpcError::invalid_request(format!("fs/writeFile requires valid base64 dataBase64: {error}"))
    })
}

/// Gives a file that was opened for it its content. Blocks.
///
/// # Errors
/// The system's.
pub(crate) fn replace(file: OwnedFd, content: &[u8]) -> Result<Empty, RpcError> {
    File::from(file).write_all(content).map_err(rpc_error)?;
    Ok(Empty {})
}

/// Creates or truncates a file for writing. A character device such as `/dev/null` is fine, and is never waited for.
///
/// # Errors
/// `-32600` for FIFOs, sockets and block devices; the system's otherwise.
pub(crate) fn open_to_replace(path: &Path, follow: bool) -> Result<OwnedFd, RpcError> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = if follow {
        openat(CWD, path, flags, NEW_FILE)
    } else {
        let (parent, name) = open_parent(path, false).map_err(rpc_error)?;
        openat(&parent, name, flags | OFlags::NOFOLLOW, NEW_FILE)
    };
    let file = match opened {
        // A socket, or a FIFO that nobody reads.
        Err(Errno::NXIO) => return Err(not_a_file(path)),
        other => other.map_err(rpc_error)?,
    };
    match FileType::from_raw_mode(fstat(&file).map_err(rpc_error)?.st_mode) {
        FileType::RegularFile | FileType::CharacterDevice => Ok(file),
        _ => Err(not_a_file(path)),
    }
}
