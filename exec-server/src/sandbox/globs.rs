//! Finds what a pattern of denied paths matches now.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::error::PolicyError;
use super::place::locate;
use super::resolve::PolicyBounds;

/// A scan for all patterns of one policy.
pub(super) struct Scan {
    bounds: PolicyBounds,
    scanned: usize,
    matches: Vec<PathBuf>,
}

struct Pattern<'a> {
    text: &'a str,
    rest: GlobMatcher,
    /// Levels below the base that can match.
    depth: u64,
}

impl Scan {
    pub(super) fn new(bounds: PolicyBounds) -> Self {
        Self { bounds, scanned: 0, matches: Vec::new() }
    }

    /// The real paths of everything matched so far.
    pub(super) fn into_matches(self) -> Vec<PathBuf> {
        self.matches
    }

    /// Looks for what a pattern matches below `root`: names by `*`, `?`, `[…]`, `{…}`, trees by `**`. Directories behind
    /// symlinks are looked into as well, since a path through the link matches too.
    ///
    /// # Errors
    /// A pattern that makes no sense, or one with too much to look at.
    pub(super) fn look(
        &mut self,
        root: &Path,
        pattern: &str,
        max_depth: Option<u64>,
    ) -> Result<(), PolicyError> {
        let (base, rest) = split(root, pattern);
        let invalid = |reason: String| PolicyError::Glob { pattern: pattern.to_owned(), reason };
        if rest.is_empty() {
            return self.take(&base);
        }
        let glob = GlobBuilder::new(&rest)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| invalid(error.kind().to_string()))?;
        if rest.split('/').any(|name| name == "..") {
            return Err(invalid("`..` has no meaning in a pattern".to_owned()));
        }
        // Braces may hold slashes, so that only simple patterns tell how deep they reach.
        let bounded = !rest.contains("**") && !rest.contains('{');
        let own = if bounded { rest.split('/').count() as u64 } else { u64::MAX };
        let pattern = Pattern {
            text: pattern,
            rest: glob.compile_matcher(),
            depth: own.min(max_depth.unwrap_or(u64::MAX)),
        };
        let base = locate(&base).map_err(|source| PolicyError::Lookup { path: base, source })?;
        if base.exists() { self.walk(&pattern, &base.real) } else { Ok(()) }
    }

    fn walk(&mut self, pattern: &Pattern<'_>, base: &Path) -> Result<(), PolicyError> {
        let mut entered = HashSet::new();
        let mut queue = vec![(base.to_owned(), PathBuf::new(), 1)];
        while let Some((directory, shown, level)) = queue.pop() {
            let identity = match fs::metadata(&directory) {
                Ok(found) => (found.dev(), found.ino(), shown.clone()),
                Err(_) => continue,
            };
            // By shown path too: the same directory may match under one name and not under another.
            if shown.components().count() > 64 || !entered.insert(identity) {
                continue;
            }
            let names = match fs::read_dir(&directory) {
                Ok(names) => names,
                // What this server may not read, its programs may not either.
                Err(error) if ignorable(error.kind()) => continue,
                Err(source) => return Err(PolicyError::Lookup { path: directory, source }),
            };
            for name in names {
                let name = match name {
                    Ok(name) => name,
                    Err(source) => return Err(PolicyError::Lookup { path: directory, source }),
                };
                self.scanned += 1;
                if self.scanned > self.bounds.scanned_names {
                    return Err(PolicyError::TooMuch {
                        what: format!("names to look at for the pattern {:?}", pattern.text),
                        most: self.bounds.scanned_names,
                        remedy: "set glob_scan_max_depth, or begin the pattern deeper",
                    });
                }
                let shown = shown.join(name.file_name());
                if pattern.rest.is_match(&shown) {
                    self.take(&name.path())?;
                } else if level < pattern.depth && is_directory(&name) {
                    queue.push((name.path(), shown, level + 1));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &Path) -> Result<(), PolicyError> {
        if self.matches.len() == self.bounds.matches {
            return Err(PolicyError::TooMuch {
                what: "paths denied by patterns".to_owned(),
                most: self.bounds.matches,
                remedy: "deny the directory that holds them",
            });
        }
        self.matches.push(path.to_owned());
        Ok(())
    }
}

fn ignorable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
}

fn is_directory(entry: &fs::DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => fs::metadata(entry.path()).is_ok_and(|found| found.is_dir()),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

/// The directory that a pattern begins in, and the rest from its first special name on.
fn split(root: &Path, pattern: &str) -> (PathBuf, String) {
    let names: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let literal = names.iter().take_while(|name| !name.contains(['*', '?', '[', '{', '\\'])).count();
    let (begin, rest) = names.split_at(literal);
    (begin.iter().fold(root.to_owned(), |path, name| path.join(name)), rest.join("/"))
}
