//! `fs/createDirectory` (10.3) and `fs/readDirectory` (10.6).

use std::fs::DirBuilder;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::ffi::CStr;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, mkdirat, openat, statat};
use rustix::io::Errno;

use super::error::rpc_error;
use super::path::{local, open_parent};
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::budget::answer_bytes;
use crate::protocol::filesystem::{
    CreateDirectory, CreateDirectoryParams, DirectoryEntry, ReadDirectory, ReadDirectoryParams,
    ReadDirectoryResult,
};
use crate::protocol::{RpcError, encode::Empty};

/// Names come from the kernel in portions of this many bytes.
const PORTION: usize = 32 << 10;
/// What an entry's JSON needs beside the name, about.
const ENTRY_OVERHEAD: usize = 64;

/// What a large directory's answer is taken to need (bytes); its bound is a message's.
const LARGE_ANSWER: u64 = 1 << 20;

/// The mode of a new directory, from which the umask is still taken away.
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o777);

/// Makes a directory, with its parents unless `recursive` is false.
///
/// Errors: The system's: a file in the way or (not recursive) an existing directory is `-32603`.
impl PathMethod for CreateDirectory {
    const CREATES: bool = true;

    fn run(params: &CreateDirectoryParams, _: &Limits) -> Result<Empty, RpcError> {
        let path = local(&params.path)?;
        let recursive = params.recursive.unwrap_or(true);
        if params.follow_symlinks.unwrap_or(true) {
            DirBuilder::new().recursive(recursive).create(path).map_err(rpc_error)?;
        } else if recursive {
            create_all_without_symlinks(path).map_err(rpc_error)?;
        } else {
            let (parent, name) = open_parent(path, false).map_err(rpc_error)?;
            mkdirat(&parent, name, NEW_DIRECTORY).map_err(rpc_error)?;
        }
        Ok(Empty {})
    }

    fn paths(params: &CreateDirectoryParams) -> Vec<PathUse<'_>> {
        let how = if params.recursive == Some(false) { How::Changes } else { How::Makes };
        vec![how.of(&params.path)]
    }
}

/// Goes down name by name from the root, making what is missing; a symlink on the way is `ENOTDIR`.
fn create_all_without_symlinks(path: &Path) -> Result<(), Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = openat(CWD, "/", directory, Mode::empty())?;
    let mut names = path.iter().skip(1).peekable();
    while let Some(name) = names.next() {
        match mkdirat(&at, name, NEW_DIRECTORY) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let found = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
                if is_file && names.peek().is_none() {
                    return Err(Errno::EXIST);
                }
            }
            Err(error) => return Err(error),
        }
        at = openat(&at, name, directory, Mode::empty())?;
    }
    Ok(())
}

/// The names in a directory, unsorted, with the kinds of their targets. What cannot be examined is left out.
///
/// Errors: The system's; `-32603` when the answer would pass `limits.transport.message_bytes`.
impl PathMethod for ReadDirectory {
    fn run(params: &ReadDirectoryParams, limits: &Limits) -> Result<ReadDirectoryResult, RpcError> {
        let path = local(&params.path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(rpc_error)?;
        let mut entries = Vec::new();
        let mut bytes = 0usize;
        for_each_name(&directory, |name, kind| {
            let kind = match kind {
                FileType::Symlink | FileType::Unknown => match statat(&directory, name, AtFlags::empty()) {
                    Ok(found) => FileType::from_raw_mode(found.st_mode),
                    Err(_) => return Ok(()),
                },
                known => known,
            };
            bytes += name.count_bytes() + ENTRY_OVERHEAD;
            if bytes > limits.transport.message_bytes {
                return Err(RpcError::internal(format!(
                    "the directory has too many names for one answer of {} bytes; use fs/walk with bounds",
                    limits.transport.message_bytes
                )));
            }
            entries.push(DirectoryEntry {
                file_name: name.to_string_lossy().into_owned(),
                is_directory: kind == FileType::Directory,
                is_file: kind == FileType::RegularFile,
            });
            Ok(())
        })?;
        Ok(ReadDirectoryResult { entries })
    }

    fn paths(params: &ReadDirectoryParams) -> Vec<PathUse<'_>> {
        vec![How::Reads.of(&params.path)]
    }

    fn answer_bytes(_: &Limits) -> u64 {
        answer_bytes(LARGE_ANSWER)
    }
}

/// Calls `visit` with each name but `.` and `..`, and the kind that the directory gives for it.
///
/// # Errors
/// The system's while listing, or what `visit` says; both end the listing.
pub(super) fn for_each_name(
    directory: &OwnedFd,
    mut visit: impl FnMut(&CStr, FileType) -> Result<(), RpcError>,
) -> Result<(), RpcError> {
    let mut portion: Box<[MaybeUninit<u8>]> = Box::new_uninit_slice(PORTION);
    let mut names = RawDir::new(directory, &mut portion);
    while let Some(entry) = names.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other.map_err(rpc_error)?,
        };
        let name = entry.file_name();
        if name != c"." && name != c".." {
            visit(name, entry.file_type())?;
        }
    }
    Ok(())
}
