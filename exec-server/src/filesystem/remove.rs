//! `fs/remove` (10.8): a name, or a whole tree, never through a symlink.

use std::ffi::OsStr;

use rustix::fd::OwnedFd;
use rustix::ffi::CString;
use rustix::fs::{AtFlags, FileType, statat, unlinkat};
use rustix::io::Errno;

use super::directory::for_each_name;
use super::error::rpc_error;
use super::metadata::symlink_refused;
use super::path::{local, open_parent};
use super::tree::{Descent, open_directory};
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::protocol::filesystem::{Remove, RemoveParams};
use crate::protocol::{ErrorCode, RpcError, encode::Empty};

/// Removes a file, a symlink, or a directory (by default with all that is in it).
///
/// Errors: `-32603` for a recursive removal without following symlinks, `-32600` for a symlink there; `-32600` for a path that
/// ends in `.` or `..`, or is the root; the system's otherwise. With `force`, by default, a missing path is fine.
impl PathMethod for Remove {
    fn run(params: &RemoveParams, _: &Limits) -> Result<Empty, RpcError> {
        let follow = params.follow_symlinks.unwrap_or(true);
        let recursive = params.recursive.unwrap_or(true);
        if recursive && !follow {
            return Err(RpcError::internal(
                "recursive removal is not supported with followSymlinks false; set recursive to false",
            ));
        }
        match remove_name(params, recursive, follow) {
            Err(error) if error.code == ErrorCode::NOT_FOUND && params.force.unwrap_or(true) => Ok(Empty {}),
            Err(error) => Err(error),
            Ok(()) => Ok(Empty {}),
        }
    }

    fn paths(params: &RemoveParams) -> Vec<PathUse<'_>> {
        vec![How::Changes.of_name(&params.path)]
    }
}

fn remove_name(params: &RemoveParams, recursive: bool, follow: bool) -> Result<(), RpcError> {
    let (parent, name) = open_parent(local(&params.path)?, follow).map_err(rpc_error)?;
    if name == OsStr::new(".") || name == OsStr::new("..") {
        return Err(RpcError::invalid_request(
            "refusing to remove the root or a path that ends in `.` or `..`; name the directory itself",
        ));
    }
    let found = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(rpc_error)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink if !follow => Err(symlink_refused()),
        FileType::Directory if recursive => {
            let name = CString::new(name.as_encoded_bytes()).map_err(|_| rpc_error(Errno::INVAL))?;
            remove_tree(&parent, name)
        }
        FileType::Directory => unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(rpc_error),
        _ => unlinkat(&parent, name, AtFlags::empty()).map_err(rpc_error),
    }
}

/// A directory whose other content is gone: its name, and the directories still to remove from it.
struct Level {
    name: CString,
    directories: Vec<CString>,
}

/// Removes a directory and everything below, without recursion. Names that vanish meanwhile are fine.
fn remove_tree(parent: &OwnedFd, name: CString) -> Result<(), RpcError> {
    let root = open_directory(parent, &name).map_err(rpc_error)?;
    let mut descent = Descent::new(root).map_err(rpc_error)?;
    let mut levels = vec![Level { name, directories: empty_of_files(descent.current()?)? }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.directories.pop() {
            match open_directory(descent.current()?, &name) {
                Ok(directory) => {
                    descent.enter(directory).map_err(rpc_error)?;
                    levels.push(Level { name, directories: empty_of_files(descent.current()?)? });
                }
                Err(Errno::NOENT) => {}
                // Something else took the directory's name.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    gone(unlinkat(descent.current()?, &name, AtFlags::empty()))?;
                }
                Err(error) => return Err(rpc_error(error)),
            }
        } else if let Some(done) = levels.pop() {
            descent.leave()?;
            let above = if levels.is_empty() { parent } else { descent.current()? };
            gone(unlinkat(above, &done.name, AtFlags::REMOVEDIR))?;
        }
    }
    Ok(())
}

/// Unlinks everything but directories; gives the directories' names.
fn empty_of_files(directory: &OwnedFd) -> Result<Vec<CString>, RpcError> {
    let mut directories = Vec::new();
    for_each_name(directory, |name, kind| {
        if kind == FileType::Directory {
            directories.push(name.to_owned());
            return Ok(());
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            // File systems that do not tell kinds, or a name that changed hands.
            Err(Errno::ISDIR) => directories.push(name.to_owned()),
            other => gone(other)?,
        }
        Ok(())
    })?;
    Ok(directories)
}

/// Fine when it is gone, whoever removed it.
fn gone(result: Result<(), Errno>) -> Result<(), RpcError> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other.map_err(rpc_error),
    }
}
