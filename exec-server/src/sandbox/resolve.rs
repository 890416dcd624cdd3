//! Turns a permission profile into a [`Policy`]: looks its paths up, and does nothing else.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use codex_exec_protocol::{WirePath, sandbox as wire};
use wire::{Access as Word, EntryPath, FileSystem, Permissions, Profile, Sandbox, Special};

use super::error::PolicyError;
use super::globs::Scan;
use super::kernel_mounts::KernelMounts;
use super::old_form;
use super::place::{Found, Location, Lookups, climbs};
use super::policy::{Access, Cap, Decider, Files, Grant, NetworkRight, Policy, Rules};
use crate::Limits;

/// What a program needs to run at all, if it is there.
const SYSTEM: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/nix/store",
    "/run/current-system/sw",
];
/// Names directly in a writable project root that stay read-only (14.2).
pub(super) const PROTECTED: [&str; 3] = [".git", ".codex", ".agents"];

/// What a profile's words mean on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The server's `TMPDIR`; without it the special place `tmpdir` means nothing.
    pub tmpdir: Option<PathBuf>,
    /// How much of a profile is looked at.
    pub bounds: PolicyBounds,
}

/// The most that one profile may hold; more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyBounds {
    /// [`Limits::sandbox_entries`].
    pub entries: usize,
    /// [`Limits::sandbox_scanned_names`].
    pub scanned_names: usize,
    /// [`Limits::sandbox_matches`].
    pub matches: usize,
}

impl From<&Limits> for PolicyBounds {
    fn from(limits: &Limits) -> Self {
        Self {
            entries: limits.sandbox.sandbox_entries,
            scanned_names: limits.sandbox.sandbox_scanned_names,
            matches: limits.sandbox.sandbox_matches,
        }
    }
}

impl Default for PolicyBounds {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// What the sandbox allows, looked up now.
///
/// # Errors
/// See [`PolicyError`]: whatever can't be understood is refused, never skipped.
pub fn resolve(sandbox: &Sandbox, around: &Surroundings) -> Result<Policy, PolicyError> {
    resolve_by(sandbox, around, &KernelMounts::default().now(), &mut Lookups::default())
}

/// As [`resolve`]; the policy is the same as long as the lookups hold, with the kernel's file systems at the same places.
pub(super) fn resolve_by(
    sandbox: &Sandbox,
    around: &Surroundings,
    kernel: &[PathBuf],
    lookups: &mut Lookups,
) -> Result<Policy, PolicyError> {
    let profile = match &sandbox.permissions {
        Permissions::Tagged(profile) => profile.clone(),
        Permissions::Untagged(members) => old_form::profile(members)?,
    };
    let (network, file_system) = match profile {
        Profile::Disabled => return Ok(Policy::ALL),
        Profile::External { network } => (network, FileSystem::Unrestricted),
        Profile::Managed { network, file_system } => (network, file_system),
    };
    let network = match network {
        wire::Network::Restricted => NetworkRight::Closed,
        wire::Network::Enabled => NetworkRight::Open,
    };
    let files = match file_system {
        FileSystem::Unrestricted => Files::All,
        FileSystem::Restricted { entries, glob_scan_max_depth } => Resolver::new(
            sandbox, around, kernel, lookups,
        )
        .rules(&entries, glob_scan_max_depth.map(u64::from), network)?,
    };
    Ok(Policy { files, network })
}

struct Resolver<'a> {
    lookups: &'a mut Lookups,
    cwd: Option<&'a Path>,
    roots: Vec<&'a Path>,
    tmpdir: Option<&'a Path>,
    bounds: PolicyBounds,
    /// Where the kernel's own file systems are, parents first.
    kernel: &'a [PathBuf],
    rules: Rules,
    /// Symlinks that grants went over: the grant's own text, and the link.
    crossed: Vec<(PathBuf, PathBuf)>,
    /// Rules that take something away from a missing path: the path, and the first missing name on its way.
    missing: Vec<(PathBuf, Cap)>,
    /// Missing paths whose rule is to be skipped.
    skipped: HashSet<PathBuf>,
}

impl<'a> Resolver<'a> {
    fn new(
        sandbox: &'a Sandbox,
        around: &'a Surroundings,
        kernel: &'a [PathBuf],
        lookups: &'a mut Lookups,
    ) -> Self {
        let cwd = sandbox.cwd.as_ref().map(|cwd| cwd.0.as_path());
        let roots = match &sandbox.workspace_roots {
            Some(roots) => roots.iter().map(|root| root.0.as_path()).collect(),
            None => cwd.into_iter().collect(),
        };
        Self {
            lookups,
            cwd,
            roots,
            tmpdir: around.tmpdir.as_deref(),
            bounds: around.bounds,
            kernel,
            rules: Rules::default(),
            crossed: Vec::new(),
            missing: Vec::new(),
            skipped: HashSet::new(),
        }
    }

    fn rules(
        mut self,
        entries: &[wire::Entry],
        depth: Option<u64>,
        network: NetworkRight,
    ) -> Result<Files, PolicyError> {
        if entries.len() > self.bounds.entries {
            return Err(PolicyError::TooMuch {
                what: "entries".to_owned(),
                most: self.bounds.entries,
                remedy: "grant or deny whole directories",
            });
        }
        let mut scan = Scan::new(self.bounds);
        for entry in entries {
            if let EntryPath::GlobPattern { pattern } = &entry.path {
                if entry.access != Word::Deny {
                    return Err(PolicyError::GlobGrant { pattern: pattern.clone() });
                }
                // Names may come to match that are not there now.
                self.lookups.is_incomplete();
                scan.look(self.pattern_root(pattern)?, pattern, depth)?;
                continue;
            }
            for path in self.paths(&entry.path)? {
                self.entry(&path, entry)?;
            }
        }
        for path in scan.into_matches() {
            self.deny(&path)?;
        }
        if self.rules.base() == Access::Denied {
            return Err(PolicyError::DeniedRoot);
        }
        if self.rules.base() == Access::Hidden {
            self.grant_system(network)?;
        }
        self.refuse_planted_links()?;
        self.protect()?;
        self.hold_places();
        if self.rules.base() == Access::Write && self.rules.regions().is_empty() {
            return Ok(Files::All);
        }
        self.keep_controls();
        Ok(Files::Rules(self.rules))
    }

    /// Where a pattern starts from.
    fn pattern_root(&self, pattern: &str) -> Result<&'a Path, PolicyError> {
        if pattern.starts_with('/') {
            return Ok(Path::new("/"));
        }
        self.cwd.ok_or_else(|| PolicyError::Relative { path: pattern.into() })
    }

    /// The paths that an entry names.
    fn paths(&self, path: &EntryPath) -> Result<Vec<PathBuf>, PolicyError> {
        let special = match path {
            EntryPath::Path { path: WirePath::Local(path) } => return Ok(vec![path.clone()]),
            EntryPath::Path { path: WirePath::Foreign(text) } => {
                return Err(PolicyError::Foreign { path: text.clone() });
            }
            EntryPath::GlobPattern { .. } => return Ok(Vec::new()),
            EntryPath::Special { value } => value,
        };
        Ok(match special {
            Special::Root => vec![PathBuf::from("/")],
            // Always there, since nothing runs without it.
            Special::Minimal => Vec::new(),
            Special::CurrentWorkingDirectory => {
                let cwd = self.cwd.ok_or_else(|| PolicyError::Relative { path: ".".into() })?;
                vec![cwd.to_owned()]
            }
            Special::ProjectRoots { subpath } => {
                let below = subpath.as_deref().map_or(Path::new(""), Path::new);
                if below.is_absolute() || climbs(below) {
                    return Err(PolicyError::Climbs { path: below.to_owned() });
                }
                self.roots.iter().map(|root| root.join(below)).collect()
            }
            Special::Tmpdir => self.tmpdir.map(Path::to_owned).into_iter().collect(),
            Special::SlashTmp => vec![PathBuf::from("/tmp")],
            Special::Unknown { path, .. } => return Err(PolicyError::UnknownPlace { name: path.clone() }),
        })
    }

    fn entry(&mut self, path: &Path, entry: &wire::Entry) -> Result<(), PolicyError> {
        let place = self.look(path)?;
        let skip = entry.missing_path_behavior.as_ref().and_then(|word| word.as_str()) == Some("skip");
        if skip && !place.exists() {
            // A prohibition never opens anything, so it leaves a protected name protected.
            if entry.access != Word::Deny {
                self.skipped.insert(place.real);
            }
            return Ok(());
        }
        let grant = match entry.access {
            Word::Deny => {
                self.deny_place(place);
                return Ok(());
            }
            Word::Read => Grant::Read,
            Word::Write => Grant::Write,
        };
        self.crossed.extend(place.links.iter().map(|(at, _)| (path.to_owned(), at.clone())));
        if let Some(first) = &place.first_missing {
            // Nothing there to grant; but inside a writable tree, a rule for reading takes writing away.
            if grant == Grant::Read {
                self.missing.push((first.clone(), Cap::ReadOnly));
            }
            return Ok(());
        }
        self.grant_place(place, grant);
        Ok(())
    }

    fn grant_place(&mut self, place: Location, grant: Grant) {
        for (at, text) in place.links {
            self.rules.add_link(at, text);
        }
        self.rules.grant(place.real, grant);
    }

    fn deny(&mut self, path: &Path) -> Result<(), PolicyError> {
        let place = self.look(path)?;
        self.deny_place(place);
        Ok(())
    }

    fn deny_place(&mut self, place: Location) {
        match place.first_missing {
            Some(first) => self.missing.push((first, Cap::Denied)),
            None => self.rules.cap(place.real, Cap::Denied),
        }
    }

    /// What every program needs, below anything that a rule says.
    fn grant_system(&mut self, network: NetworkRight) -> Result<(), PolicyError> {
        let resolver = (network == NetworkRight::Open).then_some("/etc/resolv.conf");
        for path in SYSTEM.into_iter().chain(resolver) {
            let place = self.look(Path::new(path))?;
            if place.exists() {
                self.grant_place(place, Grant::Read);
            }
        }
        Ok(())
    }

    /// A symlink in a writable tree may have been put there by a program of the same sandbox, to be granted more.
    fn refuse_planted_links(&self) -> Result<(), PolicyError> {
        for (entry, link) in &self.crossed {
            let parent = link.parent().unwrap_or(link);
            if self.rules.access_at(parent) == Access::Write {
                return Err(PolicyError::PlantedLink { entry: entry.clone(), link: link.clone() });
            }
        }
        Ok(())
    }

    /// Keeps `.git`, `.codex` and `.agents` of writable project roots read-only. A root that is writable only because
    /// everything is has none (14.1).
    fn protect(&mut self) -> Result<(), PolicyError> {
        for root in self.roots.clone() {
            let root = self.look(root)?.real;
            let writable = matches!(
                self.rules.decider(&root),
                Decider::Grant(at, Grant::Write) if at.parent().is_some()
            );
            if !writable {
                continue;
            }
            for name in PROTECTED {
                self.protect_name(root.join(name))?;
            }
        }
        Ok(())
    }

    fn protect_name(&mut self, path: PathBuf) -> Result<(), PolicyError> {
        let found = match self.lookups.find(&path) {
            Ok(Found::Missing(std::io::ErrorKind::NotFound)) => {
                if !self.skipped.contains(&path) {
                    self.missing.push((path, Cap::ReadOnly));
                }
                return Ok(());
            }
            Ok(Found::Missing(kind)) => {
                return Err(PolicyError::Lookup { path, source: kind.into() });
            }
            Ok(found) => found,
            Err(source) => return Err(PolicyError::Lookup { path, source }),
        };
        match found {
            Found::Link(_) => {
                let target = self.look(&path)?;
                match target.first_missing {
                    Some(first) => self.missing.push((first, Cap::ReadOnly)),
                    None => self.rules.cap(target.real, Cap::ReadOnly),
                }
            }
            Found::Thing { is_file: true, .. } => {
                if let Some(directory) = self.git_directory(&path) {
                    let target = self.look(&directory)?;
                    if target.exists() {
                        self.rules.cap(target.real, Cap::ReadOnly);
                    }
                }
            }
            Found::Thing { .. } | Found::Missing(_) => {}
        }
        self.rules.cap(path, Cap::ReadOnly);
        Ok(())
    }

    /// Caps on missing names matter where a program could create them.
    fn hold_places(&mut self) {
        for (path, cap) in std::mem::take(&mut self.missing) {
            let creatable = path.parent().is_some_and(|parent| self.rules.access_at(parent) == Access::Write);
            self.rules.cap(path.clone(), cap);
            if creatable {
                self.rules.add_placeholder(path);
            }
        }
    }

    /// Keeps the kernel's controls read-only unless a rule names them: who may write a tree of files may not set the
    /// machine because of what is mounted in there.
    fn keep_controls(&mut self) {
        for place in self.kernel {
            let Decider::Grant(at, Grant::Write) = self.rules.decider(place) else { continue };
            let is_named = self.kernel.iter().any(|kernel| at.starts_with(kernel));
            if !is_named {
                self.rules.grant(place.clone(), Grant::Read);
            }
        }
    }

    fn look(&mut self, path: &Path) -> Result<Location, PolicyError> {
        if !path.is_absolute() {
            return Err(PolicyError::Relative { path: path.to_owned() });
        }
        if climbs(path) {
            return Err(PolicyError::Climbs { path: path.to_owned() });
        }
        self.lookups.locate(path).map_err(|source| PolicyError::Lookup { path: path.to_owned(), source })
    }

    /// The directory that a worktree's or submodule's `.git` file names.
    fn git_directory(&mut self, file: &Path) -> Option<PathBuf> {
        let text = self.lookups.text(file)?;
        let target = Path::new(text.strip_prefix("gitdir:")?.trim());
        let joined = file.parent()?.join(target);
        // Its text may be anything: what can't be a rule's path is no directory to protect.
        self.lookups.locate(&joined).ok().map(|place| place.real)
    }
}
