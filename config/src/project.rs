//! Finds the files of the project around the working directory, and decides which of them may be trusted.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Largest `.git` file that is read. A safeguard, far from any real use.
const GIT_FILE_BYTES: u64 = 4096;

/// The configuration files of trusted directories, from the project's root down to `cwd` (login.md 12.2).
///
/// `config` is what all other layers say; it holds the trusted directories and the root's markers. A directory whose
/// `.codex` is the home directory gives no file.
pub(crate) fn trusted_files(cwd: &Path, home: &Path, config: &Table) -> Vec<PathBuf> {
    let markers = markers(config);
    let root =
        cwd.ancestors().find(|dir| markers.iter().any(|marker| has_marker(dir, marker))).unwrap_or(cwd);
    let mut dirs: Vec<&Path> = cwd.ancestors().take_while(|dir| dir.starts_with(root)).collect();
    dirs.reverse();
    dirs.retain(|dir| {
        let folder = dir.join(".codex");
        folder.is_dir() && !same_directory(&folder, home)
    });
    if dirs.is_empty() {
        return Vec::new();
    }
    let repository = main_repository(cwd);
    dirs.into_iter()
        .filter(|dir| {
            let places = [Some(*dir), Some(root), repository.as_deref()];
            places.into_iter().flatten().find_map(|place| trust(config, place)).unwrap_or(false)
        })
        .map(|dir| dir.join(".codex/config.toml"))
        .collect()
}

fn markers(config: &Table) -> Vec<&str> {
    match config.get("project_root_markers") {
        Some(Value::Array(markers)) => markers.iter().filter_map(Value::as_str).collect(),
        _ => vec![".git"],
    }
}

fn has_marker(dir: &Path, marker: &str) -> bool {
    let path = dir.join(marker);
    // A directory `.git` without HEAD, such as an empty one, is no repository.
    if marker == ".git" && path.is_dir() {
        path.join("HEAD").exists()
    } else {
        !marker.is_empty() && path.exists()
    }
}

fn same_directory(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// What `projects` says about a directory, under the path as it is or without symbolic links.
fn trust(config: &Table, dir: &Path) -> Option<bool> {
    let projects = config.get("projects")?.as_table()?;
    let level = |dir: &Path| {
        let (_, project) = projects.iter().find(|(path, _)| Path::new(path) == dir)?;
        project.get("trust_level")?.as_str().map(|level| level == "trusted")
    };
    level(dir).or_else(|| level(&dir.canonicalize().ok()?))
}

/// The main repository's root: of the repository around `cwd`, or the one that a worktree belongs to.
fn main_repository(cwd: &Path) -> Option<PathBuf> {
    let root = cwd.ancestors().find(|dir| has_marker(dir, ".git"))?;
    let git = root.join(".git");
    if git.is_dir() { Some(root.to_owned()) } else { worktree_owner(&git) }
}

/// The root of the repository that lists the worktree with this `.git` file as its own. The file alone proves nothing:
/// the author of the directory wrote it, and could point it at a repository that is trusted.
fn worktree_owner(git_file: &Path) -> Option<PathBuf> {
    let admin = PathBuf::from(first_line(git_file)?.strip_prefix("gitdir:")?.trim_start());
    let admin = git_file.parent()?.join(admin).canonicalize().ok()?;
    let worktrees = admin.parent()?;
    let common = worktrees.parent()?;
    if worktrees.file_name()? != "worktrees" || common.file_name()? != ".git" {
        return None;
    }
    let listed = admin.join(first_line(&admin.join("gitdir"))?);
    (listed.canonicalize().ok()? == git_file.canonicalize().ok()?)
        .then(|| common.parent().map(Path::to_owned))?
}

fn first_line(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    crate::file::open(path).ok()?.take(GIT_FILE_BYTES).read_to_string(&mut text).ok()?;
    text.lines().next().map(|line| line.trim_end().to_owned())
}

#[cfg(test)]
mod tests;
