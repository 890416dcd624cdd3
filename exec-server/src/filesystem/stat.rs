//! `fs/getEntry` and `fs/list`: all that a copy keeps of what a name stands for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Stat as Found, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;

use super::directory::for_each_name;
use super::error::rpc_error;
use super::path::local;
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::budget::answer_bytes;
use crate::protocol::RpcError;
use crate::protocol::filesystem::{Entry, GetEntry, GetEntryParams, Kind, List, ListParams, ListResult};

/// A block of `st_blocks`, in bytes. Fixed by the kernel.
const BLOCK: u64 = 512;
/// Pieces of data that are told of one file; behind the last one, everything counts as data. A safeguard, far from any real
/// use.
const MOST_EXTENTS: usize = 65_536;
/// What an entry's JSON needs beside the path, about.
const ENTRY_OVERHEAD: usize = 160;
/// What a large directory's answer is taken to need (bytes); its bound is a message's.
const LARGE_ANSWER: u64 = 1 << 20;
/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Errors: the system's.
impl PathMethod for GetEntry {
    fn run(params: &GetEntryParams, _: &Limits) -> Result<Entry, RpcError> {
        let path = local(&params.path)?;
        let flags = if params.follow_symlinks { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let found = statat(CWD, path, flags).map_err(rpc_error)?;
        let mut entry = entry(CWD, path.as_os_str(), path, &found)?;
        if params.extents && entry.kind == Kind::File && allocated(&found) < entry.size {
            entry.extents = extents(path, entry.size)?;
        }
        Ok(entry)
    }

    fn paths(params: &GetEntryParams) -> Vec<PathUse<'_>> {
        vec![if params.follow_symlinks {
            How::Reads.of(&params.path)
        } else {
            How::Reads.of_name(&params.path)
        }]
    }
}

/// Errors: the system's; `-32603` when the answer would pass `limits.transport.message_bytes`.
impl PathMethod for List {
    fn run(params: &ListParams, limits: &Limits) -> Result<ListResult, RpcError> {
        let path = local(&params.path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(rpc_error)?;
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        for_each_name(&directory, |name, _| {
            let found = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Gone since.
                Err(Errno::NOENT) => return Ok(()),
                found => found.map_err(rpc_error)?,
            };
            let name = OsStr::from_bytes(name.to_bytes());
            let whole = path.join(name);
            bytes += whole.as_os_str().len() + ENTRY_OVERHEAD;
            if bytes > limits.transport.message_bytes {
                return Err(RpcError::internal(format!(
                    "the directory has too many names for one answer of {} bytes",
                    limits.transport.message_bytes
                )));
            }
            match entry(&directory, name, &whole, &found) {
                Ok(entry) => entries.push(entry),
                // A symlink that is gone since.
                Err(error) if error.code == crate::protocol::ErrorCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        entries.sort_unstable_by(|a, b| name_of(a).cmp(name_of(b)));
        Ok(ListResult { entries })
    }

    fn paths(params: &ListParams) -> Vec<PathUse<'_>> {
        vec![How::Reads.of(&params.path)]
    }

    fn answer_bytes(_: &Limits) -> u64 {
        answer_bytes(LARGE_ANSWER)
    }
}

fn name_of(entry: &Entry) -> &[u8] {
    entry.path.local().map_or(&[], |path| path.as_os_str().as_bytes())
}

fn entry(at: impl AsFd, name: &OsStr, path: &Path, found: &Found) -> Result<Entry, RpcError> {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    };
    let target = match kind {
        Kind::Symlink => Some(readlinkat(at, name, Vec::new()).map_err(rpc_error)?.into_bytes().into()),
        _ => None,
    };
    let nanoseconds = i64::try_from(found.st_mtime_nsec).unwrap_or_default();
    Ok(Entry {
        path: path.to_owned().into(),
        kind,
        size: u64::try_from(found.st_size).unwrap_or_default(),
        mode: found.st_mode & 0o7777,
        modified_at_ns: found.st_mtime.saturating_mul(SECOND).saturating_add(nanoseconds),
        target,
        extents: None,
    })
}

fn allocated(found: &Found) -> u64 {
    u64::try_from(found.st_blocks).unwrap_or_default().saturating_mul(BLOCK)
}

/// Where a file has data; none where the file system can't tell.
fn extents(path: &Path, size: u64) -> Result<Option<Vec<(u64, u64)>>, RpcError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: OwnedFd = openat(CWD, path, flags, Mode::empty()).map_err(rpc_error)?;
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let from = match seek(&file, SeekFrom::Data(at)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            other => other.map_err(rpc_error)?.min(size),
        };
        let to = match found.len() + 1 {
            MOST_EXTENTS => size,
            _ => seek(&file, SeekFrom::Hole(from)).map_err(rpc_error)?.min(size),
        };
        if to <= from {
            break;
        }
        found.push((from, to - from));
        at = to;
    }
    Ok(Some(found))
}
