//! Replaces what a file holds, in place: it stays the same file for its links, watchers and mounts. Room is found before
//! what it held is touched, where the file system can say so.

use std::fs::File;
use std::io::{Result, Seek};

use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, FileType, Stat, fallocate, fstat, ftruncate};
use rustix::io::{Errno, retry_on_intr};

use super::error::rpc_error;
use crate::protocol::RpcError;

/// Has `fill` write a file's new content, of about `bytes` bytes, from its start. `file` is open for that, with what it
/// holds still in it.
///
/// # Errors
/// The system's; the sentence says what the file holds then.
pub(super) fn replace(
    file: OwnedFd,
    bytes: u64,
    fill: impl FnOnce(&mut File) -> Result<()>,
) -> std::result::Result<File, RpcError> {
    let found = fstat(&file).map_err(rpc_error)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        let mut file = File::from(file);
        fill(&mut file).map_err(rpc_error)?;
        return Ok(file);
    }
    let kept = found.st_size > 0 && find_room(&file, &found, bytes)?;
    if found.st_size > 0 && !kept {
        ftruncate(&file, 0).map_err(rpc_error)?;
    }
    let mut file = File::from(file);
    let filled = fill(&mut file);
    let written = file.stream_position().map_err(rpc_error)?;
    match filled {
        // What was there behind the new end.
        Ok(()) if kept => ftruncate(&file, written).map_err(rpc_error).map(|()| file),
        Ok(()) => Ok(file),
        Err(error) => {
            let rest = if kept { "; what follows them is what it held before" } else { "" };
            let left = format!("the file holds the first {written} of {bytes} new bytes{rest}");
            Err(and(rpc_error(error), &left))
        }
    }
}

/// Makes sure of room for new content beside, or in place of, what the file holds. False where the file system can't.
fn find_room(file: &OwnedFd, found: &Stat, bytes: u64) -> std::result::Result<bool, RpcError> {
    if bytes == 0 {
        return Ok(false);
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)) {
        Ok(()) => Ok(true),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            // Part of the room may have been got. Cutting a file off where it ends gives it back.
            if fstat(file).is_ok_and(|now| now.st_blocks > found.st_blocks) {
                let _ = ftruncate(file, u64::try_from(found.st_size).unwrap_or(0));
            }
            let left = format!("the file keeps what it held, since there is no room for {bytes} bytes");
            Err(and(rpc_error(error), &left))
        }
        Err(_) => Ok(false),
    }
}

/// The error, with more behind its sentence.
pub(super) fn and(mut error: RpcError, more: &str) -> RpcError {
    error.message = format!("{}: {more}", error.message);
    error
}
