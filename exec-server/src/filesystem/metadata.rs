//! `fs/getMetadata` (10.4).

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, StatxTimestamp};

use super::cached::metadata_if_cached;
use super::error::rpc_error;
use super::kind::{is_symlink, kind};
use super::local_mounts;
use super::path::{local, open_parent};
use super::{AtOnce, How, PathMethod, PathUse};
use crate::Limits;
use crate::protocol::RpcError;
use crate::protocol::filesystem::{GetMetadata, GetMetadataParams, Metadata};
use crate::statx::statx;

/// The facts that an answer needs, and by which [`local_mounts`] knows the file system.
pub(super) const FACTS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::BTIME)
    .union(local_mounts::MOUNT);

/// Kind, size and times of the target, and whether the name is a symlink.
///
/// Errors: `-32600` for a symlink when they are not to be followed; the system's otherwise.
impl PathMethod for GetMetadata {
    const AT_ONCE: Option<AtOnce<Self>> = Some(metadata_if_cached);

    fn run(params: &GetMetadataParams, _: &Limits) -> Result<Metadata, RpcError> {
        let path = local(&params.path)?;
        if !params.follow_symlinks.unwrap_or(true) {
            let (parent, name) = open_parent(path, false).map_err(rpc_error)?;
            let found = statx(&parent, name, AtFlags::SYMLINK_NOFOLLOW, FACTS).map_err(rpc_error)?;
            return if is_symlink(&found) { Err(symlink_refused()) } else { Ok(answer(&found, false)) };
        }
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, FACTS).map_err(rpc_error)?;
        local_mounts::learn(&found, path);
        if is_symlink(&found) {
            let target = statx(CWD, path, AtFlags::empty(), FACTS).map_err(rpc_error)?;
            return Ok(answer(&target, true));
        }
        Ok(answer(&found, false))
    }

    fn paths(params: &GetMetadataParams) -> Vec<PathUse<'_>> {
        vec![How::Reads.of(&params.path)]
    }
}

/// `-32600` for a symlink as last name with `followSymlinks` false.
pub(super) fn symlink_refused() -> RpcError {
    RpcError::invalid_request("path contains a symbolic link")
}

/// The answer for a target's facts.
pub(super) fn answer(target: &Statx, is_symlink: bool) -> Metadata {
    let created = (target.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(target.stx_btime);
    Metadata {
        is_directory: kind(target) == FileType::Directory,
        is_file: kind(target) == FileType::RegularFile,
        is_symlink,
        size: target.stx_size,
        created_at_ms: created.map_or(0, milliseconds),
        modified_at_ms: milliseconds(target.stx_mtime),
    }
}

fn milliseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(i64::from(time.tv_nsec / 1_000_000))
}
