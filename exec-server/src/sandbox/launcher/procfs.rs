//! `/proc` of the program's own PID namespace, wherever that of outside is mounted.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::mounts;
use crate::sandbox::kernel_mounts::Mounted;

/// Covers each one of outside, and keeps what is mounted in it, such as a container's masks. To be called in the new PID
/// namespace, and in a mount namespace of its own.
pub(super) fn replace(mounted: &[Mounted]) -> io::Result<()> {
    let is_whole = |mount: &Mounted| mount.kind == b"proc" && mount.root == "/";
    let tops: Vec<&Path> =
        mounted.iter().filter(|mount| is_whole(mount)).map(|mount| mount.point.as_path()).collect();
    let is_inside = |mount: &&Mounted| {
        // One that mounts at a touch has nothing to hide.
        !is_whole(mount) && mount.kind != b"autofs" && tops.iter().any(|top| mount.point.starts_with(top))
    };
    let mut inside: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for mount in mounted.iter().filter(is_inside) {
        if let Some(found) = reachable(mounts::open(&mount.point))? {
            inside.push((mount.point.clone(), mounts::clone(found)?));
        }
    }
    for top in tops {
        if let Some(on) = reachable(mounts::open(top))? {
            mounts::attach(mounts::processes()?, on)?;
        }
    }
    for (point, tree) in inside {
        // A directory of a process of outside is not there any more.
        if let Some(on) = reachable(mounts::open(&point))? {
            mounts::attach(tree, on)?;
        }
    }
    Ok(())
}

/// None for a place that no path leads to, or none that this user may take: nor can the program.
pub(super) fn reachable(opened: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
