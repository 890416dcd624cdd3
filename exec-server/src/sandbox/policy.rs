//! What one sandbox allows, as one plain value: real paths, no wishes left to interpret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::wire::exact_path;

/// What may be done at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Nothing, since no rule mentions it: it does not exist in there.
    Hidden,
    /// Nothing, since a rule says so.
    Denied,
    /// Read, and execute.
    Read,
    /// Everything.
    Write,
}

impl Access {
    /// Whether it is none, for whatever reason.
    pub(super) fn is_none(self) -> bool {
        matches!(self, Self::Hidden | Self::Denied)
    }
}

/// What a rule gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// Read.
    Read,
    /// Read and write. Of two rules for one path it wins.
    Write,
}

/// What a rule takes, for the whole tree below; no grant brings it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cap {
    /// Writing.
    ReadOnly,
    /// Everything.
    Denied,
}

/// Whether sockets are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkRight {
    /// No.
    Closed,
    /// Internet sockets in a network of its own, which leads nowhere but to what listens for it in there.
    Filtered,
    /// Yes.
    Open,
}

/// One sandbox: files and network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which files.
    pub files: Files,
    /// Whether sockets are allowed.
    pub network: NetworkRight,
}

/// Which files a policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// All of them.
    All,
    /// What the rules say.
    Rules(Rules),
}

/// Rules by real path: absolute, without symlinks, `.` and `..`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    grants: BTreeMap<PathBuf, Grant>,
    caps: BTreeMap<PathBuf, Cap>,
    /// Names that do not exist, and must not come to exist while a program runs: each has a cap, and a writable parent.
    placeholders: Vec<PathBuf>,
    /// Symlinks on the way to what was granted, with their text, so that a view without the rest can have them too.
    links: BTreeMap<PathBuf, PathBuf>,
}

/// A rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider<'a> {
    /// No rule mentions the path.
    Nothing,
    /// The most specific grant.
    Grant(&'a Path, Grant),
    /// A cap at or above the path.
    Cap(&'a Path, Cap),
}

/// A tree whose access differs from that around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its top.
    #[serde(with = "exact_path")]
    pub path: PathBuf,
    /// What holds there and below, up to further regions.
    pub access: Access,
}

impl Policy {
    /// Nothing is forbidden.
    pub const ALL: Self = Self { files: Files::All, network: NetworkRight::Open };

    /// Whether there is nothing to enforce.
    pub fn allows_everything(&self) -> bool {
        *self == Self::ALL
    }
}

impl Files {
    /// What may be done at a real path.
    pub fn access_at(&self, path: &Path) -> Access {
        match self {
            Self::All => Access::Write,
            Self::Rules(rules) => rules.access_at(path),
        }
    }
}

impl Rules {
    /// Adds a grant; of two for one path the wider one holds, as the older of the two words means no prohibition.
    pub(super) fn grant(&mut self, path: PathBuf, grant: Grant) {
        let held = self.grants.entry(path).or_insert(grant);
        *held = grant.max(*held);
    }

    /// Adds a cap; of two for one path the stricter one holds.
    pub(super) fn cap(&mut self, path: PathBuf, cap: Cap) {
        let held = self.caps.entry(path).or_insert(cap);
        *held = cap.max(*held);
    }

    pub(super) fn add_link(&mut self, at: PathBuf, text: PathBuf) {
        self.links.insert(at, text);
    }

    pub(super) fn add_placeholder(&mut self, path: PathBuf) {
        if !self.placeholders.contains(&path) {
            self.placeholders.push(path);
        }
    }

    /// What may be done at a real path.
    pub fn access_at(&self, path: &Path) -> Access {
        match self.decider(path) {
            Decider::Nothing => Access::Hidden,
            Decider::Grant(_, Grant::Read) | Decider::Cap(_, Cap::ReadOnly) => Access::Read,
            Decider::Grant(_, Grant::Write) => Access::Write,
            Decider::Cap(_, Cap::Denied) => Access::Denied,
        }
    }

    /// Which rule says what may be done at a real path: a denial at or above it; else the most specific grant, unless
    /// that gives more than a cap at or above leaves.
    pub fn decider(&self, path: &Path) -> Decider<'_> {
        let caps = || path.ancestors().filter_map(|at| self.caps.get_key_value(at));
        if let Some((at, cap)) = caps().find(|(_, cap)| **cap == Cap::Denied) {
            return Decider::Cap(at, *cap);
        }
        let Some((at, grant)) = path.ancestors().find_map(|at| self.grants.get_key_value(at)) else {
            return Decider::Nothing;
        };
        match caps().next() {
            Some((at, cap)) if *grant == Grant::Write => Decider::Cap(at, *cap),
            _ => Decider::Grant(at, *grant),
        }
    }

    /// What holds where no other region says otherwise.
    pub fn base(&self) -> Access {
        self.access_at(Path::new("/"))
    }

    /// The trees whose access differs from what is around them, parents first; without the root itself.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = Vec::new();
        let base = self.base();
        let mut paths: Vec<&PathBuf> = self.grants.keys().chain(self.caps.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths.into_iter().filter(|path| path.parent().is_some()) {
            let around = regions.iter().rev().find(|region| path.starts_with(&region.path));
            let around = around.map_or(base, |region| region.access);
            let access = self.access_at(path);
            if access != around && !(access.is_none() && around.is_none()) {
                regions.push(Region { path: path.clone(), access });
            }
        }
        regions
    }

    /// Names that must not come to exist while a program runs.
    pub fn placeholders(&self) -> &[PathBuf] {
        &self.placeholders
    }

    /// Symlinks on the way to what is granted, with their text.
    pub fn links(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.links.iter().map(|(at, text)| (at.as_path(), text.as_path()))
    }

    /// Whether a rule denies anything.
    pub fn denies(&self) -> bool {
        self.caps.values().any(|cap| *cap == Cap::Denied)
    }

    /// Whether anything may be written.
    pub fn allows_writing(&self) -> bool {
        self.base() == Access::Write || self.regions().iter().any(|region| region.access == Access::Write)
    }

    /// Whether a tree inside a more widely open one is closed: what the kernel's rights alone can't express.
    pub fn narrows_inside(&self) -> bool {
        let regions = self.regions();
        regions.iter().any(|inner| {
            let around = regions
                .iter()
                .rev()
                .find(|outer| outer.path != inner.path && inner.path.starts_with(&outer.path))
                .map_or(self.base(), |outer| outer.access);
            match around {
                Access::Write => true,
                Access::Read => inner.access == Access::Denied,
                Access::Hidden | Access::Denied => false,
            }
        })
    }
}
