//! Protects names in writable project roots, and names that must not come to exist.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::PolicyError;
use super::lookups::Found;
use super::policy::{Access, Decider, Rule};
use super::resolve::{Missing, Resolver};

/// Names directly in a writable project root that stay read-only (14.2).
const PROTECTED: [&str; 3] = [".git", ".codex", ".agents"];

impl Resolver<'_> {
    /// Whether a path is such a name directly in one of these project roots.
    pub(super) fn is_protected_name(path: &Path, roots: &[PathBuf]) -> bool {
        let is_name =
            path.file_name().is_some_and(|name| PROTECTED.iter().any(|protected| name == *protected));
        is_name && path.parent().is_some_and(|parent| roots.iter().any(|root| root == parent))
    }

    /// Keeps `.git`, `.codex` and `.agents` of writable project roots read-only, as far as no entry is for one of them or
    /// something in it. A root that is writable only because everything is has none (14.1).
    pub(super) fn protect(&mut self) -> Result<(), PolicyError> {
        for root in self.roots.clone() {
            let root = self.look(root)?.real;
            let writable = matches!(
                self.rules.decider(&root),
                Decider::Rule(at, Rule::Write) if at.parent().is_some()
            );
            if !writable {
                continue;
            }
            for name in PROTECTED {
                self.protect_name(&root, root.join(name))?;
            }
        }
        Ok(())
    }

    fn protect_name(&mut self, root: &Path, path: PathBuf) -> Result<(), PolicyError> {
        self.rules.add_protected_name(path.clone());
        let lookup = |path, source| PolicyError::Lookup { path, source };
        match self.lookups.find(&path).map_err(|source| lookup(path.clone(), source))? {
            Found::Missing(ErrorKind::NotFound) => {
                if !self.left.contains(&path) {
                    self.missing.push(Missing { first: path.clone(), path, rule: Rule::Protect });
                }
                return Ok(());
            }
            Found::Missing(kind) => return Err(lookup(path, kind.into())),
            Found::Shut { is_own } => {
                if is_own {
                    self.rules.add(root.to_owned(), Rule::Deny);
                }
                return Ok(());
            }
            Found::Link(_) => {
                let target = self.look(&path)?;
                if target.exists() && root.starts_with(&target.real) {
                    // What is in the link is what is in the root.
                    self.rules.make_read_only(root.to_owned());
                }
                self.take_away(target, Rule::Protect);
            }
            Found::Thing { is_placeholder: true, .. } => self.rules.add_placeholder(path.clone()),
            Found::Thing { is_file: true, .. } => self.protect_git_directory(&path)?,
            Found::Thing { .. } => {}
        }
        self.rules.add(path, Rule::Protect);
        Ok(())
    }

    /// Protects the directory that a worktree's or submodule's `.git` file names.
    fn protect_git_directory(&mut self, file: &Path) -> Result<(), PolicyError> {
        let Some(text) = self.lookups.text(file) else { return Ok(()) };
        let Some(target) = text.strip_prefix("gitdir:").map(|text| Path::new(text.trim())) else {
            return Ok(());
        };
        let Some(joined) = file.parent().map(|parent| parent.join(target)) else { return Ok(()) };
        // Its text may be anything: what can't be a rule's path is no directory to protect.
        let Ok(place) = self.lookups.locate(&joined) else { return Ok(()) };
        if (place.exists() || place.shut.is_some()) && !self.is_granted_as_git(&place.real) {
            self.take_away(place, Rule::Protect);
        }
        Ok(())
    }

    /// Whether an entry lets git's own directory be written, with the directory of a worktree or submodule in it.
    fn is_granted_as_git(&self, directory: &Path) -> bool {
        let Decider::Rule(at, Rule::Write) = self.rules.decider(directory) else { return false };
        let is_gits = at.components().any(|name| name.as_os_str().as_encoded_bytes().ends_with(b".git"));
        is_gits && !self.roots.iter().any(|root| root.starts_with(at))
    }

    /// Rules for missing names matter where a program could create them.
    pub(super) fn hold_places(&mut self) {
        for Missing { path, first, rule } in std::mem::take(&mut self.missing) {
            let creatable =
                first.parent().is_some_and(|parent| self.rules.access_at(parent) == Access::Write);
            self.rules.add(path.clone(), rule);
            if creatable {
                self.rules.add_placeholder(path);
            }
        }
    }
}
