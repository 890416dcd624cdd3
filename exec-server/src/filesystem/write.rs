//! `fs/writeFile` (10.2), and how a file is opened to be replaced.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, ftruncate, openat};
use rustix::io::Errno;

use super::content::and;
use super::error::{not_a_file, rpc_error};
use super::path::open_parent;
use crate::protocol::filesystem::{WriteFileParams, WriteMode};
use crate::protocol::{RpcError, bytes, encode::Empty};

/// The mode of a new file, from which the umask is still taken away.
pub(super) const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

/// The mode of a new file that is not whole yet.
const OWNERS: Mode = Mode::from_raw_mode(0o600);

/// What a file is to hold.
///
/// # Errors
/// `-32600` for bad base64.
pub(crate) fn content(params: &WriteFileParams) -> Result<Vec<u8>, RpcError> {
    bytes::decode(&params.data_base64).map_err(|error| {
        RpcError::invalid_request(format!("fs/writeFile requires valid base64 dataBase64: {error}"))
    })
}

/// Writes to a file that was opened for these params. Blocks.
///
/// # Errors
/// The system's; where there is no room, the file keeps what it held if its file system can say so beforehand.
pub(crate) fn write(params: &WriteFileParams, file: OwnedFd, content: &[u8]) -> Result<Empty, RpcError> {
    match params.mode {
        WriteMode::Append => append(file, content),
        WriteMode::Truncate | WriteMode::Exclusive => replace(file, content),
    }
}

fn replace(file: OwnedFd, content: &[u8]) -> Result<Empty, RpcError> {
    super::content::replace(file, content.len() as u64, |file| file.write_all(content))?;
    Ok(Empty {})
}

/// The sentence of an error says how much was written.
fn append(file: OwnedFd, content: &[u8]) -> Result<Empty, RpcError> {
    let mut file = File::from(file);
    let mut rest = content;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(rpc_error(ErrorKind::WriteZero)),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let left = format!(
                    "the first {} of {} bytes were appended",
                    content.len() - rest.len(),
                    content.len()
                );
                return Err(and(rpc_error(error), &left));
            }
        }
    }
    Ok(Empty {})
}

/// Empties a regular file that was opened for writing.
///
/// # Errors
/// Those of the system.
pub(crate) fn empty(file: &OwnedFd) -> Result<(), RpcError> {
    let found = fstat(file).map_err(rpc_error)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_size > 0 {
        ftruncate(file, 0).map_err(rpc_error)?;
    }
    Ok(())
}

/// Creates a file for its owner alone, or opens it for writing with what it holds still in it. A symlink that has the name is
/// not followed: others may have put it there.
///
/// # Errors
/// `-32600` for what is no regular file; the system's otherwise.
pub(super) fn open_to_update(path: &Path) -> Result<OwnedFd, RpcError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags | OFlags::NOCTTY, OWNERS).map_err(rpc_error)?;
    match FileType::from_raw_mode(fstat(&file).map_err(rpc_error)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(not_a_file(path)),
    }
}

/// What becomes of a file that is opened to be written and there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is opened with what it holds still in it.
    Kept,
    /// All that is written goes behind what it holds.
    Appended,
    /// It is refused, a symlink too.
    Refused,
}

/// Creates a file or opens it for writing, with what it holds still in it. A character device such as `/dev/null` is fine, and is never waited for.
///
/// # Errors
/// `-32600` for FIFOs, sockets and block devices; the system's otherwise.
pub(crate) fn open_to_write(path: &Path, follow: bool, existing: Existing) -> Result<OwnedFd, RpcError> {
    let how = match existing {
        Existing::Kept => OFlags::empty(),
        Existing::Appended => OFlags::APPEND,
        Existing::Refused => OFlags::EXCL,
    };
    let flags = how | OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
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
