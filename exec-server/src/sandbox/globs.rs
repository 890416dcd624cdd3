//! Finds what patterns of denied paths match now: one walk for all that begin in one directory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::PolicyError;
use super::lookups::could_open;
use super::patterns::{Pattern, Patterns, States};
use super::resolve::PolicyBounds;

/// The patterns of one policy.
pub(super) struct Scan {
    bounds: PolicyBounds,
    /// How many levels below its base a pattern reaches.
    depth: u64,
    /// Patterns with something special in them, by the directory that they begin in.
    patterns: BTreeMap<PathBuf, Vec<Pattern>>,
    scanned: usize,
    matches: Vec<PathBuf>,
}

/// A directory to look into.
struct Ahead {
    path: PathBuf,
    states: States,
    /// How many levels may be looked at, this directory's names being the first.
    levels: u64,
    /// Whether a symlink leads there.
    is_linked: bool,
}

impl Scan {
    pub(super) fn new(bounds: PolicyBounds, max_depth: Option<u64>) -> Self {
        let depth = max_depth.unwrap_or(u64::MAX);
        Self { bounds, depth, patterns: BTreeMap::new(), scanned: 0, matches: Vec::new() }
    }

    /// Adds what is to be looked for below a real directory: names by `*`, `?`, `[…]`, `{…}`, trees by `**`.
    pub(super) fn add(&mut self, base: PathBuf, patterns: Vec<Pattern>) {
        self.patterns.entry(base).or_default().extend(patterns);
    }

    /// The paths of everything that matches. Directories behind symlinks are looked into as well, since a path through the
    /// link matches too. `grants_below` says of a real path whether something in it is granted once more: else what is in a
    /// match needs no look. What this user may not list, but could, is denied as a whole: nobody knows what matches in there.
    ///
    /// # Errors
    /// When there is too much to look at, or the file system doesn't tell.
    pub(super) fn run(mut self, grants_below: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, PolicyError> {
        for (base, patterns) in std::mem::take(&mut self.patterns) {
            let patterns = Patterns::new(patterns)
                .map_err(|reason| PolicyError::Glob { pattern: base.display().to_string(), reason })?;
            self.walk(&patterns, base, &grants_below)?;
        }
        Ok(self.matches)
    }

    fn walk(
        &mut self,
        patterns: &Patterns,
        base: PathBuf,
        grants_below: &impl Fn(&Path) -> bool,
    ) -> Result<(), PolicyError> {
        let mut seen = Seen::default();
        let mut matching = Vec::new();
        let begin = Ahead { path: base, states: patterns.begin(), levels: self.depth, is_linked: false };
        let mut queue = vec![begin];
        while let Some(ahead) = queue.pop() {
            let names = match seen
                .is_new(&ahead)
                .and_then(|new| new.then(|| fs::read_dir(&ahead.path)).transpose())
            {
                Ok(Some(names)) => names,
                Ok(None) => continue,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    if let Some(shut) = shut(&ahead.path) {
                        self.take(shut.to_owned())?;
                    }
                    continue;
                }
                Err(error) if is_gone(&error) => continue,
                Err(source) => return Err(PolicyError::Lookup { path: ahead.path, source }),
            };
            for name in names {
                let name = match name {
                    Ok(name) => name,
                    Err(error) if is_gone(&error) => break,
                    Err(source) => return Err(PolicyError::Lookup { path: ahead.path, source }),
                };
                self.count()?;
                let (next, matches) = patterns.step(&ahead.states, &name.file_name(), &mut matching);
                if matches {
                    self.take(name.path())?;
                }
                let leads_on = ahead.levels > 1 && next.as_ref().is_some_and(States::lead_on);
                let Some(states) = next.filter(|_| leads_on) else { continue };
                let Some(link) = directory(&name) else { continue };
                let is_linked = ahead.is_linked || link;
                if matches && !grants_below(&real(name.path(), is_linked)) {
                    continue;
                }
                queue.push(Ahead { path: name.path(), states, levels: ahead.levels - 1, is_linked });
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), PolicyError> {
        self.scanned += 1;
        if self.scanned <= self.bounds.scanned_names {
            return Ok(());
        }
        Err(PolicyError::TooMuch {
            what: "names to look at for its patterns".to_owned(),
            most: self.bounds.scanned_names,
            remedy: "set glob_scan_max_depth, or begin the patterns deeper",
        })
    }

    fn take(&mut self, path: PathBuf) -> Result<(), PolicyError> {
        if self.matches.len() == self.bounds.matches {
            return Err(PolicyError::TooMuch {
                what: "paths denied by patterns".to_owned(),
                most: self.bounds.matches,
                remedy: "deny the directory that holds them",
            });
        }
        self.matches.push(path);
        Ok(())
    }
}

/// Directories that were looked into, and what was looked for: symlinks may lead to one again and again.
#[derive(Default)]
struct Seen(HashMap<(u64, u64), Vec<(States, u64)>>);

impl Seen {
    /// Whether something is looked for in there that was not before.
    fn is_new(&mut self, ahead: &Ahead) -> io::Result<bool> {
        let found = fs::metadata(&ahead.path)?;
        let before = self.0.entry((found.dev(), found.ino())).or_default();
        if before.iter().any(|(states, levels)| states.cover(&ahead.states) && *levels >= ahead.levels) {
            return Ok(false);
        }
        before.push((ahead.states.clone(), ahead.levels));
        Ok(true)
    }
}

/// The directory by which nobody may look into another one now, if programs could open it: that itself, or the one that it
/// is in.
fn shut(directory: &Path) -> Option<&Path> {
    let is_hidden = fs::symlink_metadata(directory).is_err();
    let shut = if is_hidden { directory.parent()? } else { directory };
    could_open(shut).then_some(shut)
}

/// What is no directory any more, or belongs to a process that has ended.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ELOOP))
}

/// Whether a name is a directory, and then whether by a symlink.
fn directory(entry: &fs::DirEntry) -> Option<bool> {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => {
            fs::metadata(entry.path()).is_ok_and(|found| found.is_dir()).then_some(true)
        }
        Ok(kind) => kind.is_dir().then_some(false),
        Err(_) => None,
    }
}

fn real(path: PathBuf, is_linked: bool) -> PathBuf {
    if is_linked { fs::canonicalize(&path).unwrap_or(path) } else { path }
}

/// The directory that a pattern begins in, and the rest from its first special name on.
pub(super) fn split(root: &Path, pattern: &str) -> (PathBuf, String) {
    let names: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let literal = names.iter().take_while(|name| !name.contains(['*', '?', '[', '{', '\\'])).count();
    let (begin, rest) = names.split_at(literal);
    (begin.iter().fold(root.to_owned(), |path, name| path.join(name)), rest.join("/"))
}
