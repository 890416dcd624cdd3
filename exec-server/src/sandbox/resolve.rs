//! Turns a permission profile into a [`Policy`]: looks its paths up, and does nothing else.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use codex_exec_protocol::{WirePath, sandbox as wire};
use wire::{Access as Word, EntryPath, FileSystem, Permissions, Profile, Sandbox, Special};

use super::error::PolicyError;
use super::globs::{Scan, split};
use super::kernel_mounts::KernelMounts;
use super::lookups::{Found, Location, Lookups, climbs};
use super::old_form;
use super::patterns::Pattern;
use super::policy::{Access, Decider, Files, NetworkRight, Policy, Rule, Rules};
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

pub(super) struct Resolver<'a> {
    pub(super) lookups: &'a mut Lookups,
    cwd: Option<&'a Path>,
    pub(super) roots: Vec<&'a Path>,
    tmpdir: Option<&'a Path>,
    bounds: PolicyBounds,
    /// Where the kernel's own file systems are, parents first.
    kernel: &'a [PathBuf],
    pub(super) rules: Rules,
    /// What every program needs is asked for.
    minimal: bool,
    /// Symlinks that grants went over: the grant's own text, and the link.
    crossed: Vec<(PathBuf, PathBuf)>,
    /// Entries for reading that lead over symlinks, with what they name.
    reads: Vec<(PathBuf, Location)>,
    /// Rules that take something away from a path that does not exist.
    pub(super) missing: Vec<Missing>,
    /// Missing paths that an entry leaves to the programs, which then need no protection.
    pub(super) left: HashSet<PathBuf>,
}

/// A rule for a path that does not exist.
pub(super) struct Missing {
    pub(super) path: PathBuf,
    /// The first name on its way that does not exist.
    pub(super) first: PathBuf,
    pub(super) rule: Rule,
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
            minimal: false,
            crossed: Vec::new(),
            reads: Vec::new(),
            missing: Vec::new(),
            left: HashSet::new(),
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
        for entry in entries {
            for path in self.paths(&entry.path)? {
                self.entry(&path, entry)?;
            }
        }
        self.reads_over_links()?;
        // Behind all other entries, which may grant something in what matches.
        self.patterns(entries, depth)?;
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

    /// Denies what the patterns among the entries match now.
    fn patterns(&mut self, entries: &[wire::Entry], depth: Option<u64>) -> Result<(), PolicyError> {
        let mut scan = Scan::new(self.bounds, depth);
        for entry in entries {
            let EntryPath::GlobPattern { pattern } = &entry.path else { continue };
            if entry.access != Word::Deny {
                return Err(PolicyError::GlobGrant { pattern: pattern.clone() });
            }
            // Names may come to match that are not there now.
            self.lookups.is_incomplete();
            let (base, rest) = split(self.pattern_root(pattern)?, pattern);
            if rest.is_empty() {
                self.deny(&base)?;
                continue;
            }
            let patterns = Pattern::all(&rest)
                .map_err(|reason| PolicyError::Glob { pattern: pattern.clone(), reason })?;
            let place =
                self.lookups.locate(&base).map_err(|source| PolicyError::Lookup { path: base, source })?;
            if place.exists() {
                scan.add(place.real, patterns);
            } else if let Some(shut) = place.shut {
                self.rules.add(shut, Rule::Deny);
            }
        }
        for path in scan.run(|path| self.rules.grants_below(path))? {
            self.deny(&path)?;
        }
        Ok(())
    }

    /// Where a pattern starts from.
    fn pattern_root(&self, pattern: &str) -> Result<&'a Path, PolicyError> {
        if pattern.starts_with('/') {
            return Ok(Path::new("/"));
        }
        self.cwd.ok_or_else(|| PolicyError::Relative { path: pattern.into() })
    }

    /// The paths that an entry names.
    fn paths(&mut self, path: &EntryPath) -> Result<Vec<PathBuf>, PolicyError> {
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
            Special::Minimal => {
                self.minimal = true;
                Vec::new()
            }
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
        let rule = match entry.access {
            Word::Deny => Rule::Deny,
            Word::Read => Rule::Read,
            Word::Write => Rule::Write,
        };
        if skip && !place.exists() && place.shut.is_none() {
            // A prohibition never opens anything, so it leaves a protected name protected.
            if rule != Rule::Deny {
                self.left.insert(place.real);
            }
            return Ok(());
        }
        match rule {
            Rule::Deny => {
                // Whoever may put another symlink there would have something else denied the next time.
                for (at, _) in &place.links {
                    self.rules.add(at.clone(), Rule::Protect);
                }
                if place.exists() {
                    self.share_placeholder(&place.real)?;
                }
                self.take_away(place, Rule::Deny);
                return Ok(());
            }
            Rule::Read if place.exists() && !place.links.is_empty() => {
                self.reads.push((path.to_owned(), place));
                return Ok(());
            }
            _ => self.crossed.extend(place.links.iter().map(|(at, _)| (path.to_owned(), at.clone()))),
        }
        if place.exists() && rule == Rule::Write {
            self.grant(place, rule);
        } else if place.exists() {
            self.share_placeholder(&place.real)?;
            self.grant(place, rule);
        } else if rule == Rule::Read {
            // Nothing there to grant; but inside a writable tree, a rule for reading takes writing away.
            self.take_away(place, Rule::Read);
        } else if place.shut.is_none() {
            self.left.insert(place.real);
        }
        Ok(())
    }

    /// Where a protected name of a writable project root is a symlink, an entry for reading takes writing away there, as
    /// clients mean it, and opens nothing: a program may have put the symlink there.
    fn reads_over_links(&mut self) -> Result<(), PolicyError> {
        if self.reads.is_empty() {
            return Ok(());
        }
        let roots: Vec<PathBuf> =
            self.roots.clone().into_iter().map(|root| Ok(self.look(root)?.real)).collect::<Result<_, _>>()?;
        for (path, place) in std::mem::take(&mut self.reads) {
            let is_open = |at: &Path| self.rules.access_at(at.parent().unwrap_or(at)) == Access::Write;
            let is_planted = place.links.iter().any(|(at, _)| is_open(at));
            if is_planted && place.links.iter().all(|(at, _)| Self::is_protected_name(at, &roots)) {
                for (at, _) in &place.links {
                    self.rules.add(at.clone(), Rule::Protect);
                }
                self.take_away(place, Rule::Protect);
                continue;
            }
            self.crossed.extend(place.links.iter().map(|(at, _)| (path.clone(), at.clone())));
            self.share_placeholder(&place.real)?;
            self.grant(place, Rule::Read);
        }
        Ok(())
    }

    fn grant(&mut self, place: Location, rule: Rule) {
        for (at, text) in place.links {
            self.rules.add_link(at, text);
        }
        self.rules.add(place.real, rule);
    }

    /// A placeholder of another program, or one that was left behind, is gone as soon as nobody holds it.
    fn share_placeholder(&mut self, real: &Path) -> Result<(), PolicyError> {
        let found = self.lookups.find(real);
        let found = found.map_err(|source| PolicyError::Lookup { path: real.to_owned(), source })?;
        if matches!(found, Found::Thing { is_placeholder: true, .. }) {
            self.rules.add_placeholder(real.to_owned());
        }
        Ok(())
    }

    fn deny(&mut self, path: &Path) -> Result<(), PolicyError> {
        let place = self.look(path)?;
        self.take_away(place, Rule::Deny);
        Ok(())
    }

    /// Adds a rule that narrows. What nobody may look into takes none, unless programs could open it: then it stays shut.
    pub(super) fn take_away(&mut self, place: Location, rule: Rule) {
        match (place.first_missing, place.shut) {
            (None, _) => self.rules.add(place.real, rule),
            (Some(_), Some(shut)) => self.rules.add(shut, Rule::Deny),
            (Some(first), None) => self.missing.push(Missing { path: place.real, first, rule }),
        }
    }

    /// What every program needs, unless a rule denies it. Where everything is denied, only as asked.
    fn grant_system(&mut self, network: NetworkRight) -> Result<(), PolicyError> {
        if matches!(self.rules.decider(Path::new("/")), Decider::Rule(_, Rule::Deny)) && !self.minimal {
            return Ok(());
        }
        let resolver = (network == NetworkRight::Open).then_some("/etc/resolv.conf");
        for path in SYSTEM.into_iter().chain(resolver) {
            let place = self.look(Path::new(path))?;
            if place.exists() && self.rules.access_at(&place.real) != Access::Denied {
                self.grant(place, Rule::Read);
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

    /// Keeps the kernel's controls read-only unless a rule names them: who may write a tree of files may not set the
    /// machine because of what is mounted in there.
    fn keep_controls(&mut self) {
        for place in self.kernel {
            let Decider::Rule(at, Rule::Write) = self.rules.decider(place) else { continue };
            let is_named = self.kernel.iter().any(|kernel| at.starts_with(kernel));
            if !is_named {
                self.rules.add(place.clone(), Rule::Read);
            }
        }
    }

    pub(super) fn look(&mut self, path: &Path) -> Result<Location, PolicyError> {
        if !path.is_absolute() {
            return Err(PolicyError::Relative { path: path.to_owned() });
        }
        if climbs(path) {
            return Err(PolicyError::Climbs { path: path.to_owned() });
        }
        self.lookups.locate(path).map_err(|source| PolicyError::Lookup { path: path.to_owned(), source })
    }
}
