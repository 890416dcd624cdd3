//! POSIX queues of the program's own IPC namespace, wherever those of outside are mounted: a file of theirs is a queue, and
//! what opens one to read takes messages from it.

use std::io;

use super::{mounts, procfs};
use crate::sandbox::kernel_mounts::Mounted;

/// Covers each mount of outside. To be called in the new IPC namespace, and in a mount namespace of its own.
pub(super) fn replace(mounted: &[Mounted]) -> io::Result<()> {
    for mount in mounted.iter().filter(|mount| mount.kind == b"mqueue") {
        if let Some(on) = procfs::reachable(mounts::open(&mount.point))? {
            // Nothing at all hides them as well, where the kernel mounts no queues.
            mounts::attach(mounts::queues().or_else(|_| mounts::memory(c"0755"))?, on)?;
        }
    }
    Ok(())
}
