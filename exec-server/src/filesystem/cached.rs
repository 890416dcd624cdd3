//! Answers about paths on the calling thread, when the kernel has everything in memory and cannot wait.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, openat2};
use rustix::io::Errno;

use super::error::rpc_error;
use super::kind::is_symlink;
use super::metadata::{FACTS, answer, symlink_refused};
use super::path::local;
use super::{local_mounts, metadata};
use crate::protocol::RpcError;
use crate::protocol::filesystem::{GetMetadataParams, Metadata};
use crate::statx::statx;

/// Set once the kernel or a filter has refused `RESOLVE_CACHED` (before Linux 5.12, some containers).
static UNSUPPORTED: AtomicBool = AtomicBool::new(false);

/// The answer of `fs/getMetadata` when it needs no waiting: the whole path is in the dentry cache, on a mount that
/// `fs/getMetadata` has found to be a local disk. None: ask a worker thread.
pub(super) fn metadata_if_cached(params: &GetMetadataParams) -> Option<Result<Metadata, RpcError>> {
    let path = match local(&params.path) {
        Ok(path) => path,
        Err(error) => return Some(Err(error)),
    };
    let follow = params.follow_symlinks.unwrap_or(true);
    let resolve = if follow { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
    let found = match open_cached(path, OFlags::NOFOLLOW, resolve)? {
        Ok(name) => facts(&name)?,
        // A negative dentry that its file system still vouches for: as true as a lookup on a worker.
        Err(Errno::NOENT) => return Some(Err(rpc_error(Errno::NOENT))),
        Err(_) => return None,
    };
    match (is_symlink(&found), follow) {
        (false, _) => Some(Ok(answer(&found, false))),
        (true, false) => Some(Err(symlink_refused())),
        // The target's facts would be a second lookup; rare enough for a worker.
        (true, true) => None,
    }
}

/// Whether the path, symlinks followed, can be looked up without waiting, and lies on a mount known to be local. Such a
/// directory or program can be used by the event loop itself. False when in doubt, also before
/// [`learn_filesystem`] or `fs/getMetadata` has seen the mount.
pub(crate) fn resolves_without_io(path: &Path) -> bool {
    matches!(open_cached(path, OFlags::empty(), ResolveFlags::empty()), Some(Ok(file)) if facts(&file).is_some())
}

/// Finds out whether the mount that `path` is on is local, for [`resolves_without_io`]. Run it on a worker thread: it
/// waits for a hanging file system.
pub(crate) fn learn_filesystem(path: &Path) {
    if let Ok(found) = statx(CWD, path, AtFlags::empty(), metadata::FACTS) {
        local_mounts::learn(&found, path);
    }
}

/// Opens the name only as far as the dentry cache goes. None when the cache does not know, or the kernel cannot tell.
fn open_cached(path: &Path, flags: OFlags, resolve: ResolveFlags) -> Option<Result<OwnedFd, Errno>> {
    if UNSUPPORTED.load(Ordering::Relaxed) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED | resolve) {
        Err(Errno::AGAIN) => None,
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
            UNSUPPORTED.store(true, Ordering::Relaxed);
            None
        }
        result => Some(result),
    }
}

/// The facts of an open name without asking any server. None outside local mounts.
fn facts(file: &OwnedFd) -> Option<Statx> {
    let found = statx(file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, FACTS).ok()?;
    local_mounts::is_local(&found).then_some(found)
}
