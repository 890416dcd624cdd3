//! `fs/copy` (10.9): a file, a symlink, or a tree merged into another.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::ffi::{CStr, CString};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Stat, fchmod, fstat, ftruncate, ioctl_ficlone, mkdirat,
    openat, readlinkat, seek, statat, symlinkat,
};
use rustix::io::Errno;

use super::content;
use super::directory::for_each_name;
use super::error::{not_a_file, rpc_error};
use super::path::{local, open_parent, split};
use super::tree::{Descent, Identity, identity, open_directory};
use super::write::NEW_FILE;
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::protocol::filesystem::{self as fs, CopyParams};
use crate::protocol::{RpcError, encode::Empty};

/// Copies a file with its mode, a symlink as a symlink, or (with `recursive`) a directory, merging into an existing one.
///
/// Errors: `-32600` for a directory without `recursive`, into itself or below itself, and for FIFOs, sockets and devices;
/// the system's otherwise.
impl PathMethod for fs::Copy {
    const CREATES: bool = true;

    fn run(params: &CopyParams, _: &Limits) -> Result<Empty, RpcError> {
        let source = local(&params.source_path)?;
        let destination = local(&params.destination_path)?;
        let (from, name) = open_parent(source, true).map_err(rpc_error)?;
        let name = c_name(name.as_encoded_bytes())?;
        let found = statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(rpc_error)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {
                let Some(file) = open_source(&from, &name)? else { return Err(unsupported()) };
                let target =
                    open_target(&CWD, destination, OFlags::empty()).map_err(|error| match error {
                        Errno::NXIO => not_a_file(destination),
                        error => rpc_error(error),
                    })?;
                copy_content(file, target, destination)?;
            }
            FileType::Symlink => {
                let target = readlinkat(&from, &name, Vec::new()).map_err(rpc_error)?;
                symlinkat(&target, CWD, destination).map_err(rpc_error)?;
            }
            FileType::Directory if !params.recursive => {
                return Err(RpcError::invalid_request(
                    "fs/copy requires recursive: true when sourcePath is a directory",
                ));
            }
            FileType::Directory => {
                refuse_copy_into_itself(source, destination)?;
                make_parents(destination)?;
                copy_tree(&open_directory(&from, &name).map_err(rpc_error)?, &found, destination)?;
            }
            _ => return Err(unsupported()),
        }
        Ok(Empty {})
    }

    fn paths(params: &CopyParams) -> Vec<PathUse<'_>> {
        let changed = if params.recursive { How::Makes } else { How::Changes };
        vec![How::Reads.of_name(&params.source_path), changed.of(&params.destination_path)]
    }
}

fn c_name(name: &[u8]) -> Result<CString, RpcError> {
    CString::new(name).map_err(|_| rpc_error(Errno::INVAL))
}

fn unsupported() -> RpcError {
    RpcError::invalid_request("fs/copy only supports regular files, directories, and symlinks")
}

fn into_itself() -> RpcError {
    RpcError::invalid_request("fs/copy cannot copy a directory to itself or one of its descendants")
}

/// By the real paths. What bind mounts hide from paths, [`copy_tree`] finds by identity.
fn refuse_copy_into_itself(source: &Path, destination: &Path) -> Result<(), RpcError> {
    let source = std::fs::canonicalize(source).map_err(rpc_error)?;
    if real_destination(destination)?.starts_with(&source) { Err(into_itself()) } else { Ok(()) }
}

/// Where the destination is, or will be once its missing parents are there.
fn real_destination(destination: &Path) -> Result<PathBuf, RpcError> {
    if let Ok(real) = std::fs::canonicalize(destination) {
        return Ok(real);
    }
    let (mut parent, name) = split(destination);
    let mut missing = vec![name];
    loop {
        match std::fs::canonicalize(parent) {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (above, name) = split(parent);
                missing.push(name);
                parent = above;
            }
            Err(error) => return Err(rpc_error(error)),
        }
    }
}

/// Makes the directories that a copied one is to lie in, as released servers do.
fn make_parents(destination: &Path) -> Result<(), RpcError> {
    let (parent, _) = split(destination);
    if parent.is_dir() { Ok(()) } else { std::fs::create_dir_all(parent).map_err(rpc_error) }
}

/// Opens a regular file for copying; none when it is something else by now. Never waits for a FIFO.
fn open_source(parent: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, RpcError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
        other => other.map_err(rpc_error)?,
    };
    let kind = FileType::from_raw_mode(fstat(&file).map_err(rpc_error)?.st_mode);
    Ok((kind == FileType::RegularFile).then_some(file))
}

/// Opens the copy without emptying it: it may be the source itself. Only its owner may use it until its mode is set.
fn open_target<P: rustix::path::Arg, Fd: rustix::fd::AsFd>(
    parent: &Fd,
    name: P,
    more: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    openat(parent, name, flags, NEW_FILE & Mode::RWXU)
}

/// Content, then mode bits: in this order, since writing takes set-user-id away.
fn copy_content(source: OwnedFd, target: OwnedFd, name: &Path) -> Result<(), RpcError> {
    let from = fstat(&source).map_err(rpc_error)?;
    let to = fstat(&target).map_err(rpc_error)?;
    if identity(&from) == identity(&to) {
        return Ok(());
    }
    if FileType::from_raw_mode(to.st_mode) != FileType::RegularFile {
        return Err(not_a_file(name));
    }
    let size = u64::try_from(from.st_size).unwrap_or(0);
    // The copy shares the blocks where the file system can.
    let target = if ioctl_ficlone(&target, &source).is_ok() {
        ftruncate(&target, size).map_err(rpc_error)?;
        File::from(target)
    } else if is_sparse(&from) {
        ftruncate(&target, 0).map_err(rpc_error)?;
        content::replace(target, size, |target| copy_data(&File::from(source), target))?
    } else {
        content::replace(target, size, |target| io::copy(&mut File::from(source), target).map(drop))?
    };
    fchmod(&target, mode_of_copy(&from, &to)).map_err(rpc_error)
}

/// The source's, but for the set-ID bits of another owner: who copies a program does not take it over as one of their own.
fn mode_of_copy(source: &Stat, copy: &Stat) -> Mode {
    let lent = match (source.st_uid == copy.st_uid, source.st_gid == copy.st_gid) {
        (true, true) => Mode::empty(),
        (true, false) => Mode::SGID,
        (false, _) => Mode::SUID | Mode::SGID,
    };
    Mode::from_raw_mode(source.st_mode & 0o7777) - lent
}

/// Whether a file takes less of the disk than it is long. Its unit of blocks is 512 bytes (stat(2)).
fn is_sparse(found: &Stat) -> bool {
    found.st_blocks.saturating_mul(512) < found.st_size
}

/// Copies what is between the holes, which stay holes.
fn copy_data(source: &File, target: &mut File) -> io::Result<()> {
    let mut at = 0;
    loop {
        match seek(source, SeekFrom::Data(at)) {
            Ok(data) => at = data,
            // Behind the last data, or on a file system that knows no holes.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => {
                seek(source, SeekFrom::Start(at))?;
                return io::copy(&mut &*source, target).map(drop);
            }
            Err(error) => return Err(error.into()),
        }
        let end = seek(source, SeekFrom::Hole(at))?;
        seek(source, SeekFrom::Start(at))?;
        seek(&*target, SeekFrom::Start(at))?;
        at += io::copy(&mut source.take(end - at), target)?;
        if at < end {
            break;
        }
    }
    let size = source.metadata()?.len();
    target.set_len(size)?;
    seek(&*target, SeekFrom::Start(size))?;
    Ok(())
}

/// Makes or finds the directory to copy into. It gets the source's mode under the umask, and stays usable by us.
fn make_directory<P: rustix::path::Arg + Copy, Fd: rustix::fd::AsFd>(
    parent: &Fd,
    name: P,
    source: &Stat,
    follow: OFlags,
) -> Result<OwnedFd, RpcError> {
    let mode = Mode::from_raw_mode(source.st_mode & 0o777) | Mode::RWXU;
    let existed = match mkdirat(parent, name, mode) {
        Ok(()) => false,
        Err(Errno::EXIST) => true,
        Err(error) => return Err(rpc_error(error)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
    openat(parent, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP if existed => rpc_error(Errno::EXIST),
        error => rpc_error(error),
    })
}

/// Copies a tree level by level, without recursion; below the top nothing follows a symlink.
fn copy_tree(source: &OwnedFd, found: &Stat, destination: &Path) -> Result<(), RpcError> {
    let target = make_directory(&CWD, destination, found, OFlags::empty())?;
    let top = identity(&fstat(&target).map_err(rpc_error)?);
    if identity(found) == top {
        return Err(into_itself());
    }
    let source = source.try_clone().map_err(rpc_error)?;
    let mut from = Descent::new(source).map_err(rpc_error)?;
    let mut to = Descent::new(target).map_err(rpc_error)?;
    let mut levels = vec![copy_names(&from, &to)?];
    while let Some(directories) = levels.last_mut() {
        match directories.pop() {
            Some(name) => {
                if enter_both(&mut from, &mut to, &name, top)? {
                    levels.push(copy_names(&from, &to)?);
                }
            }
            None => {
                levels.pop();
                from.leave()?;
                to.leave()?;
            }
        }
    }
    Ok(())
}

/// Goes down one directory on both sides; false when it is gone from the source.
fn enter_both(from: &mut Descent, to: &mut Descent, name: &CStr, top: Identity) -> Result<bool, RpcError> {
    let directory = match open_directory(from.current()?, name) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        other => other.map_err(rpc_error)?,
    };
    let found = fstat(&directory).map_err(rpc_error)?;
    if identity(&found) == top {
        return Err(into_itself());
    }
    let target = make_directory(to.current()?, name, &found, OFlags::NOFOLLOW)?;
    from.enter(directory).map_err(rpc_error)?;
    to.enter(target).map_err(rpc_error)?;
    Ok(true)
}

/// Copies the files and symlinks of one directory; gives the names of its directories.
fn copy_names(from: &Descent, to: &Descent) -> Result<Vec<CString>, RpcError> {
    let (from, to) = (from.current()?, to.current()?);
    let mut directories = Vec::new();
    for_each_name(from, |name, kind| {
        let kind = match kind {
            FileType::Unknown => match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                found => FileType::from_raw_mode(found.map_err(rpc_error)?.st_mode),
            },
            known => known,
        };
        match kind {
            FileType::Directory => directories.push(name.to_owned()),
            FileType::RegularFile => copy_file_below(from, to, name)?,
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(rpc_error)?;
                symlinkat(&target, to, name).map_err(rpc_error)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(directories)
}

fn copy_file_below(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), RpcError> {
    let Some(source) = open_source(from, name)? else { return Ok(()) };
    let target = match open_target(to, name, OFlags::NOFOLLOW) {
        // A symlink has the name: following it could leave the tree.
        Err(Errno::LOOP) => return Err(rpc_error(Errno::EXIST)),
        other => other.map_err(rpc_error)?,
    };
    copy_content(source, target, Path::new(&*name.to_string_lossy()))
}
