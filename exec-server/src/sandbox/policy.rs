//! What one sandbox allows, as one plain value: real paths, no wishes left to interpret.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
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

/// What a rule says of the tree below its path, as far as no rule for something in there says otherwise. Of two for one
/// path the later one in this list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nobody writes what could be written else. Opens nothing, and gives way to an entry for the same path.
    Protect,
    /// It may be read.
    Read,
    /// It may be read and written.
    Write,
    /// Nothing.
    Deny,
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
    /// What may be done with which files.
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

/// Rules by real path: absolute, without symlinks, `.` and `..`. The most specific one decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: BTreeMap<PathBuf, Rule>,
    /// Names that do not exist, and must not come to exist while a program runs: each has a rule, and the first that is
    /// missing on its way has a writable parent.
    placeholders: Vec<PathBuf>,
    /// Symlinks on the way to what was granted, with their text, so that a view without the rest can have them too.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Names that are protected in every writable project root.
    names: BTreeSet<PathBuf>,
}

/// A rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider<'a> {
    /// No rule mentions the path.
    Nothing,
    /// The most specific rule, and the path that it is for.
    Rule(&'a Path, Rule),
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

    /// The same without the protection of `.git`, `.codex` and `.agents` in writable project roots. None if that changes
    /// nothing.
    pub(super) fn without_protected_names(&self) -> Option<Self> {
        let Files::Rules(rules) = &self.files else { return None };
        let open = rules.without_protected_names();
        (open != *rules).then_some(Self { files: Files::Rules(open), network: self.network })
    }

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
    /// Adds a rule; of two for one path the stronger one holds ([`Rule`]).
    pub(super) fn add(&mut self, path: PathBuf, rule: Rule) {
        let held = self.rules.entry(path).or_insert(rule);
        *held = rule.max(*held);
    }

    /// Takes writing from a path that a rule may have given it to.
    pub(super) fn make_read_only(&mut self, path: PathBuf) {
        let held = self.rules.entry(path).or_insert(Rule::Read);
        if *held != Rule::Deny {
            *held = Rule::Read;
        }
    }

    /// Remembers a name that is protected whatever the entries say, as far as none lets it be written.
    pub(super) fn add_protected_name(&mut self, path: PathBuf) {
        self.names.insert(path);
    }

    /// The same without the protection of names in writable project roots, and nothing else.
    fn without_protected_names(&self) -> Self {
        let mut rules = self.clone();
        let names = &self.names;
        rules.rules.retain(|path, rule| match rule {
            Rule::Protect => false,
            Rule::Read => !names.contains(path),
            Rule::Write | Rule::Deny => true,
        });
        rules.placeholders.retain(|path| rules.rules.contains_key(path));
        rules
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
            Decider::Rule(_, Rule::Read | Rule::Protect) => Access::Read,
            Decider::Rule(_, Rule::Write) => Access::Write,
            // A denial of everything only means that nothing is granted but what others grant.
            Decider::Rule(at, Rule::Deny) if at.parent().is_none() => Access::Hidden,
            Decider::Rule(_, Rule::Deny) => Access::Denied,
        }
    }

    /// Which rule says what may be done at a real path: the most specific one. A protection counts only where the rule
    /// behind it would let write.
    pub fn decider(&self, path: &Path) -> Decider<'_> {
        let mut protection = None;
        for (at, rule) in path.ancestors().filter_map(|at| self.rules.get_key_value(at)) {
            match (rule, protection) {
                (Rule::Protect, None) => protection = Some(at),
                (Rule::Protect, Some(_)) => {}
                (Rule::Write, Some(protected)) => return Decider::Rule(protected, Rule::Protect),
                _ => return Decider::Rule(at, *rule),
            }
        }
        Decider::Nothing
    }

    /// Whether an entry grants or denies something below a path.
    pub(super) fn grants_below(&self, path: &Path) -> bool {
        let from = (Bound::Excluded(path), Bound::Unbounded);
        let mut below = self.rules.range::<Path, _>(from).take_while(|(at, _)| at.starts_with(path));
        below.any(|(_, rule)| matches!(rule, Rule::Read | Rule::Write))
    }

    /// What holds where no other region says otherwise.
    pub fn base(&self) -> Access {
        self.access_at(Path::new("/"))
    }

    /// The trees whose access differs from what is around them, parents first; without the root itself.
    pub fn regions(&self) -> Vec<Region> {
        self.within().into_iter().map(|(region, _)| region).collect()
    }

    /// The same, each with the access around it.
    fn within(&self) -> Vec<(Region, Access)> {
        let mut regions: Vec<(Region, Access)> = Vec::new();
        // Those that the next path may lie in. What lies in a tree follows it at once, as paths are sorted by name.
        let mut open: Vec<usize> = Vec::new();
        for path in self.rules.keys().filter(|path| path.parent().is_some()) {
            while open.last().is_some_and(|at| !path.starts_with(&regions[*at].0.path)) {
                open.pop();
            }
            let around = open.last().map_or(self.base(), |at| regions[*at].0.access);
            let access = self.access_at(path);
            if access != around && !(access.is_none() && around.is_none()) {
                open.push(regions.len());
                regions.push((Region { path: path.clone(), access }, around));
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

    /// Whether a rule denies anything that could be readable else.
    pub fn denies(&self) -> bool {
        self.rules.iter().any(|(at, rule)| *rule == Rule::Deny && at.parent().is_some())
    }

    /// Whether anything may be written.
    pub fn allows_writing(&self) -> bool {
        self.base() == Access::Write || self.within().iter().any(|(region, _)| region.access == Access::Write)
    }

    /// Whether a tree inside a more widely open one is closed: what the kernel's rights alone can't express.
    pub fn narrows_inside(&self) -> bool {
        self.within().iter().any(|(region, around)| match around {
            Access::Write => true,
            Access::Read => region.access == Access::Denied,
            Access::Hidden | Access::Denied => false,
        })
    }
}
