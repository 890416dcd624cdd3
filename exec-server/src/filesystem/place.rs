//! `fs/place` and `fs/link`: the last step of a copy, by which a file has its mode, time and name at once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, fstat, ftruncate, futimens,
    openat, renameat, symlinkat, unlinkat, utimensat,
};

use super::error::rpc_error;
use super::hash;
use super::path::{local, open_parent};
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::protocol::filesystem::{Link, LinkParams, Place, PlaceParams};
use crate::protocol::{RpcError, encode::Empty};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Errors: `-32600` for what is neither a file nor a directory, and for another content than was said; the system's.
impl PathMethod for Place {
    const CREATES: bool = true;

    fn run(params: &PlaceParams, _: &Limits) -> Result<Empty, RpcError> {
        let path = local(&params.path)?;
        if let (Some(expected), Some(destination)) = (&params.replaces_sha256, &params.destination) {
            let now = hash::of_file(local(destination)?, u64::MAX)?;
            if now.sha256 != *expected {
                return Err(RpcError::invalid_request("the file has changed meanwhile"));
            }
        }
        let (parent, name) = open_parent(path, true).map_err(rpc_error)?;
        let file = open(&parent, name, params.size.is_some())?;
        change(&file, params)?;
        if let Some(destination) = &params.destination {
            let (to, new) = open_parent(local(destination)?, true).map_err(rpc_error)?;
            renameat(&parent, name, &to, new).map_err(rpc_error)?;
        }
        Ok(Empty {})
    }

    fn paths(params: &PlaceParams) -> Vec<PathUse<'_>> {
        let destination = params.destination.as_ref().map(|path| How::Changes.of_name(path));
        std::iter::once(How::Changes.of_name(&params.path)).chain(destination).collect()
    }
}

fn open(parent: &OwnedFd, name: &OsStr, to_write: bool) -> Result<OwnedFd, RpcError> {
    let way = if to_write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = way | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty()).map_err(rpc_error)?;
    let found = fstat(&file).map_err(rpc_error)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::Directory => Ok(file),
        _ => Err(RpcError::invalid_request("only a regular file or a directory can be placed")),
    }
}

fn change(file: &OwnedFd, params: &PlaceParams) -> Result<(), RpcError> {
    if let Some(size) = params.size {
        ftruncate(file, size).map_err(rpc_error)?;
    }
    if let Some(expected) = &params.sha256 {
        let found = hash::of_open(file, u64::MAX)?;
        if found.sha256 != *expected {
            return Err(RpcError::invalid_request(format!(
                "what arrived is not what was sent: its SHA-256 is {} and should be {expected}",
                found.sha256
            )));
        }
    }
    if let Some(mode) = params.mode {
        fchmod(file, Mode::from_raw_mode(mode & 0o7777)).map_err(rpc_error)?;
    }
    if let Some(modified) = params.modified_at_ns {
        futimens(file, &times(modified)).map_err(rpc_error)?;
    }
    Ok(())
}

fn times(modified: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: modified.div_euclid(SECOND),
            tv_nsec: modified.rem_euclid(SECOND),
        },
    }
}

/// Errors: `-32600` for a target with a NUL; the system's, also for a directory in the way.
impl PathMethod for Link {
    const CREATES: bool = true;

    fn run(params: &LinkParams, _: &Limits) -> Result<Empty, RpcError> {
        let (parent, name) = open_parent(local(&params.path)?, true).map_err(rpc_error)?;
        let target = OsStr::from_bytes(&params.target.0);
        match symlinkat(target, &parent, name).map_err(rpc_error) {
            Err(_) if unlinkat(&parent, name, AtFlags::empty()).is_ok() => {
                symlinkat(target, &parent, name).map_err(rpc_error)?;
            }
            other => other?,
        }
        if let Some(modified) = params.modified_at_ns {
            utimensat(&parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW).map_err(rpc_error)?;
        }
        Ok(Empty {})
    }

    fn paths(params: &LinkParams) -> Vec<PathUse<'_>> {
        vec![How::Changes.of_name(&params.path)]
    }
}
