//! What a sandbox comes to, kept for the next operation under it: as long as all that was looked up for it still is as
//! it was, looking everything up again would give the same.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::sandbox::Sandbox;
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::sandbox::lookups::{Identity, Lookups};
use crate::sandbox::task::{FileWalls, NetworkWalls, Walls};
use crate::sandbox::{Confiner, Files, Policy};

/// Sandboxes remembered by one connection, the latest used. Chosen for speed.
const MOST_PREPARED: usize = 4;
/// Descriptors that one helper's paths are held by at most; with more to hold, it serves once. Chosen for speed.
const MOST_HELD: usize = 32;

/// A sandbox, resolved.
pub(super) struct Prepared {
    sandbox: Sandbox,
    lookups: Lookups,
    kernel_mounts: Arc<[PathBuf]>,
    pub(super) policy: Policy,
    /// What a helper has to be like for operations that create no names.
    pub(super) fit: Arc<Fit>,
}

/// What makes a helper the right one: its walls, and that the paths in it are still the same things.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) walls: Walls,
    things: Vec<Thing>,
    /// Names that came to the root are not in an older view.
    root_changed: (i64, i64),
}

/// What a path of a confinement leads to. The kernel takes a cover off a name that somebody outside removes, so a file
/// that came later must never pass for the one that was covered.
#[derive(Debug)]
enum Thing {
    Nothing,
    Known(Identity),
    /// Where files have no time of birth: as long as it is held, its number is its own.
    Held(Identity, #[expect(dead_code, reason = "held, not used")] OwnedFd),
    /// It can't be told from others.
    Unknown,
}

/// The latest used ones.
#[derive(Default)]
pub(super) struct Memory(Mutex<Vec<Arc<Prepared>>>);

impl Prepared {
    fn new(confiner: &Confiner, sandbox: &Sandbox) -> Result<Self, RpcError> {
        let mut lookups = Lookups::default();
        let kernel_mounts = confiner.kernel_mounts();
        let policy = confiner.policy_by(sandbox, &mut lookups)?;
        let fit = Arc::new(Fit::of(confiner.confine_reading(&policy)?));
        Ok(Self { sandbox: sandbox.clone(), lookups, kernel_mounts, policy, fit })
    }

    fn still_holds(&self, confiner: &Confiner) -> bool {
        self.lookups.still_hold()
            && self.kernel_mounts == confiner.kernel_mounts()
            && self.fit.root_changed == root_changed()
    }

    /// Whether names that are missing have to be kept from coming to exist.
    pub(super) fn has_placeholders(&self) -> bool {
        matches!(&self.policy.files, Files::Rules(rules) if !rules.placeholders().is_empty())
    }
}

impl Fit {
    pub(super) fn of(mut walls: Walls) -> Self {
        // A helper has no use for the network.
        walls.network = NetworkWalls::Closed;
        // Nor for processes: it signals nobody, and any rights keep it from looking into others.
        walls.own_pids &= walls.landlock == 0;
        let mut held = 0;
        let things = match &walls.files {
            FileWalls::All => Vec::new(),
            FileWalls::Granted(granted) => {
                granted.regions.iter().map(|region| Thing::at(&region.path, &mut held)).collect()
            }
        };
        Self { walls, things, root_changed: root_changed() }
    }

    /// Whether a helper that was made for `self` serves for what `now` was just made of.
    pub(super) fn serves(&self, now: &Self) -> bool {
        self.walls == now.walls
            && self.root_changed == now.root_changed
            && self.things.len() == now.things.len()
            && self.things.iter().zip(&now.things).all(|(then, now)| then.is_still(now))
    }
}

impl Thing {
    fn at(path: &Path, held: &mut usize) -> Self {
        let Some(identity) = Identity::at(path) else { return Self::Nothing };
        if identity.birth.is_some() {
            return Self::Known(identity);
        }
        *held += 1;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = (*held <= MOST_HELD).then(|| openat(CWD, path, flags, Mode::empty()).ok()).flatten();
        match file {
            // What is held has to be what was looked at.
            Some(file) if Identity::at(path) == Some(identity) => Self::Held(identity, file),
            _ => Self::Unknown,
        }
    }

    fn is_still(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Known(then) | Self::Held(then, _), Self::Known(now) | Self::Held(now, _)) => then == now,
            _ => false,
        }
    }
}

fn root_changed() -> (i64, i64) {
    std::fs::metadata("/").map_or((0, 0), |root| (root.mtime(), root.mtime_nsec()))
}

impl Memory {
    /// The sandbox resolved: as before if that is still right, else anew.
    ///
    /// # Errors
    /// `-32600` for a sandbox that makes no sense, or that can't be enforced here.
    pub(super) fn prepare(&self, confiner: &Confiner, sandbox: &Sandbox) -> Result<Arc<Prepared>, RpcError> {
        // Looking up may wait for a disk, so that is done without the lock.
        let known = self.take(sandbox);
        let prepared = match known.filter(|known| known.still_holds(confiner)) {
            Some(known) => known,
            None => Arc::new(Prepared::new(confiner, sandbox)?),
        };
        self.put(&prepared);
        Ok(prepared)
    }

    fn take(&self, sandbox: &Sandbox) -> Option<Arc<Prepared>> {
        let known = self.0.lock();
        known.iter().find(|known| known.sandbox == *sandbox).map(Arc::clone)
    }

    /// Makes it the latest.
    fn put(&self, prepared: &Arc<Prepared>) {
        let mut known = self.0.lock();
        if known.last().is_some_and(|last| Arc::ptr_eq(last, prepared)) {
            return;
        }
        known.retain(|known| known.sandbox != prepared.sandbox);
        if known.len() == MOST_PREPARED {
            known.remove(0);
        }
        known.push(Arc::clone(prepared));
    }
}
