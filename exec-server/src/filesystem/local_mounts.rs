//! Remembers which mounts are local disks or memory, where cached facts are true and a look never waits.
//!
//! A worker thread learns (`statfs` may wait for a server); the event loop only looks up. Network and user-space file
//! systems never count: their cached facts may be stale, and touching them may hang.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{Statx, StatxFlags, statfs};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a mount's number that is never used again. rustix has no name for it yet.
const UNIQUE: u32 = 0x4000;
/// Asks for the mount's number.
pub(super) const MOUNT: StatxFlags = StatxFlags::MNT_ID.union(StatxFlags::from_bits_retain(UNIQUE));
/// Mounts remembered of either kind; more push out older ones, which are then learned again.
const SLOTS: usize = 16;

/// Magic numbers of file systems without a server or a daemon behind them.
const LOCAL_KINDS: [u64; 11] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0x794C_7630, // overlayfs
    0x8584_58F6, // ramfs
    0xF2F5_2010, // f2fs
    0x2FC1_2FC1, // zfs
    0xCA45_1A4E, // bcachefs
    0x7371_7368, // squashfs
    0xE0F5_E1E2, // erofs
];

/// A small set of mounts. Zero is an empty slot: a key always has its lowest bits set.
struct Mounts {
    keys: [AtomicU64; SLOTS],
    next: AtomicUsize,
}

impl Mounts {
    const fn new() -> Self {
        Self { keys: [const { AtomicU64::new(0) }; SLOTS], next: AtomicUsize::new(0) }
    }
    fn holds(&self, key: u64) -> bool {
        self.keys.iter().any(|slot| slot.load(Ordering::Relaxed) == key)
    }
    fn add(&self, key: u64) {
        if !self.holds(key) {
            let slot = self.next.fetch_add(1, Ordering::Relaxed) % SLOTS;
            self.keys[slot].store(key, Ordering::Relaxed);
        }
    }
}

static LOCAL: Mounts = Mounts::new();
static OTHER: Mounts = Mounts::new();

/// None on kernels that cannot name a mount for good: a number used again could make a network mount look local.
fn key(found: &Statx) -> Option<u64> {
    (found.stx_mask & UNIQUE != 0).then_some(found.stx_mnt_id << 1 | 1)
}

/// Whether these facts come from a mount known to be local.
pub(super) fn is_local(found: &Statx) -> bool {
    key(found).is_some_and(|key| LOCAL.holds(key))
}

/// Whether a file system of this kind has nothing but this machine behind it.
pub(super) fn is_local_kind(magic: u64) -> bool {
    LOCAL_KINDS.contains(&magic)
}

/// Finds out what the mount of `found`, the facts of the name `path`, is. May wait for a hanging file system.
pub(super) fn learn(found: &Statx, path: &Path) {
    let Some(key) = key(found) else { return };
    if LOCAL.holds(key) || OTHER.holds(key) || super::kind::is_symlink(found) {
        return;
    }
    let Ok(system) = statfs(path) else { return };
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between machines")]
    let magic = system.f_type as u32;
    let mounts = if is_local_kind(u64::from(magic)) { &LOCAL } else { &OTHER };
    mounts.add(key);
}
