//! What kind of file the facts of `statx` are about.

use rustix::fs::{FileType, Statx};

/// Whether these are the facts of a symlink itself.
pub(super) fn is_symlink(found: &Statx) -> bool {
    kind(found) == FileType::Symlink
}

pub(super) fn kind(found: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(found.stx_mode))
}
