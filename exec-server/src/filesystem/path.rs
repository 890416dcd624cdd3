//! Local paths, and how they are resolved without following a symlink.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::protocol::{RpcError, WirePath};

const PARENT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The local path, without slashes at its end: a file with a trailing slash is still read (7.1).
///
/// # Errors
/// `-32600` for a foreign path.
pub(crate) fn local(path: &WirePath) -> Result<&Path, RpcError> {
    path.local().map(without_trailing_slashes)
}

fn without_trailing_slashes(path: &Path) -> &Path {
    let mut bytes = path.as_os_str().as_bytes();
    while let [rest @ .., b'/'] = bytes
        && !rest.is_empty()
    {
        bytes = rest;
    }
    Path::new(OsStr::from_bytes(bytes))
}

/// The text of the parent and the last name; `/` gives `/` and `.`.
pub(super) fn split(path: &Path) -> (&Path, &OsStr) {
    let bytes = path.as_os_str().as_bytes();
    let at = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = bytes.split_at(at);
    let parent = without_trailing_slashes(Path::new(OsStr::from_bytes(parent)));
    (parent, OsStr::from_bytes(if name.is_empty() { b"." } else { name }))
}

/// Opens the directory that holds the path's last name, and gives that name.
///
/// With `follow` false a symlink in the parent is `ENOTDIR`, whatever it points to; there is no moment between the
/// check and the use.
///
/// # Errors
/// What the system says about the parent.
pub(super) fn open_parent(path: &Path, follow: bool) -> Result<(OwnedFd, &OsStr), Errno> {
    let (parent, name) = split(path);
    let directory =
        if follow { openat(CWD, parent, PARENT, Mode::empty())? } else { open_without_symlinks(parent)? };
    Ok((directory, name))
}

/// Opens a directory, refusing a symlink in any place with `ENOTDIR`.
fn open_without_symlinks(directory: &Path) -> Result<OwnedFd, Errno> {
    match openat2(CWD, directory, PARENT, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        // An old kernel, or a container's filter that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_name_by_name(directory),
        other => other,
    }
}

/// The same for kernels without `openat2`: one `openat` for each name.
pub(super) fn open_name_by_name(directory: &Path) -> Result<OwnedFd, Errno> {
    let mut at = openat(CWD, "/", PARENT, Mode::empty())?;
    for name in directory.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        if !name.is_empty() {
            at = openat(&at, OsStr::from_bytes(name), PARENT | OFlags::NOFOLLOW, Mode::empty())?;
        }
    }
    Ok(at)
}
