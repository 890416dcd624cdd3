//! Finds the home directory that all Codex programs share, and reads its `.env`.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest `.env` that is read; the rest of a larger one is ignored. A safeguard, far from any real use.
const DOT_ENV_BYTES: u64 = 1 << 20;
/// What the variables in the values of a `.env` may add up to: a few lines that each repeat the one before would fill the
/// memory. The rest of a file that could go beyond is ignored. A safeguard, far from any real use.
const SUBSTITUTED_BYTES: usize = 64 << 20;
/// What a `$` counts for at least, since it may stand for a variable of the process.
/// A safeguard, far from any real use.
const LEAST_SUBSTITUTED: usize = 4 << 10;

/// Why there is no home directory (login.md 1).
#[derive(Debug, Clone, thiserror::Error)]
pub enum HomeError {
    /// `CODEX_HOME` names nothing that exists.
    #[error("CODEX_HOME points to {0:?}, but that path does not exist")]
    Missing(OsString),
    /// `CODEX_HOME` names something else than a directory.
    #[error("CODEX_HOME points to {0:?}, but that path is not a directory")]
    NotADirectory(OsString),
    /// `CODEX_HOME` can't be looked at.
    #[error("CODEX_HOME points to {value:?}, which can't be used: {cause}")]
    Unusable {
        /// The variable's value.
        value: OsString,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// There is neither `CODEX_HOME` nor a home directory of the user.
    #[error("Could not find home directory")]
    NoUserHome,
}

impl HomeError {
    /// Whether there may be a home directory, with a configuration in it, that only can't be looked at.
    pub fn hides_configuration(&self) -> bool {
        matches!(self, Self::Unusable { cause, .. } if cause.kind() != io::ErrorKind::NotADirectory)
    }
}

/// Finds the home directory: `codex_home` (the variable `CODEX_HOME`; empty counts as unset) without symbolic links, or
/// `.codex` in the user's home directory, which need not exist.
///
/// # Errors
/// `codex_home` is no directory, or neither is given.
pub fn find(codex_home: Option<&OsStr>, user_home: Option<&Path>) -> Result<PathBuf, HomeError> {
    match codex_home {
        Some(value) if !value.is_empty() => canonical(value),
        _ => user_home.map(|home| home.join(".codex")).ok_or(HomeError::NoUserHome),
    }
}

fn canonical(value: &OsStr) -> Result<PathBuf, HomeError> {
    let unusable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => HomeError::Missing(value.to_owned()),
        _ => HomeError::Unusable { value: value.to_owned(), cause: Arc::new(cause) },
    };
    let path = std::fs::canonicalize(value).map_err(unusable)?;
    if path.metadata().map_err(unusable)?.is_dir() {
        Ok(path)
    } else {
        Err(HomeError::NotADirectory(value.to_owned()))
    }
}

/// The assignments of `.env` in the home directory, in their order, without those whose names start with `CODEX_`
/// (login.md 1.1). A file that is missing or can't be read has none; lines that are no assignment are left out.
///
/// Every name and value can be put in a process's environment as it is. `$NAME` in an unquoted or doubly quoted value
/// stands for a variable assigned above or, as in released programs, one of the process.
pub fn dot_env(home: &Path) -> Vec<(String, String)> {
    use io::Read as _;
    let mut text = Vec::new();
    // It may be a named pipe, by which some password managers hand it out; then their answer is waited for.
    let read = std::fs::File::open(home.join(".env"))
        .and_then(|file| file.take(DOT_ENV_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let longest = Cell::new(LEAST_SUBSTITUTED);
    let lines = Lines { rest: text.as_bytes(), longest: &longest, left: SUBSTITUTED_BYTES, line: 0 };
    dotenvy::from_read_iter(lines)
        .filter_map(Result::ok)
        .inspect(|(_, value)| longest.set(longest.get().max(value.len())))
        .filter(|(name, value)| !name.starts_with("CODEX_") && fits_environment(name, value))
        .collect()
}

/// Hands out a text by lines, as long as what may be put in for their variables stays within its bound.
struct Lines<'a> {
    rest: &'a [u8],
    /// The longest value so far.
    longest: &'a Cell<usize>,
    /// Bytes that may still be put in.
    left: usize,
    /// What is left of a line that was begun.
    line: usize,
}

impl io::Read for Lines<'_> {
    /// Never more than one line, so that the values of those before are known; and a line wholly or not at all.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.line == 0 {
            self.line =
                self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |end| end + 1);
            let variables = self.rest[..self.line].iter().filter(|byte| **byte == b'$').count();
            match self.left.checked_sub(variables.saturating_mul(self.longest.get())) {
                Some(left) => self.left = left,
                None => (self.rest, self.line) = (&[], 0),
            }
        }
        let (now, rest) = self.rest.split_at(self.line.min(out.len()));
        out[..now.len()].copy_from_slice(now);
        self.line -= now.len();
        self.rest = rest;
        Ok(now.len())
    }
}

fn fits_environment(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_found_by_the_rules_or_refused_with_the_words_of_released_programs() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/inner")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        let at = |tail: &str| format!("{}/{tail}", root.display());
        let found = |codex_home: Option<&str>, user: Option<&str>| {
            find(codex_home.map(OsStr::new), user.map(Path::new)).map_err(|error| error.to_string())
        };
        for (codex_home, user, wanted) in [
            (None, Some("/home/dev"), Ok("/home/dev/.codex".to_owned())),
            (Some(String::new()), Some("/home/dev"), Ok("/home/dev/.codex".to_owned())),
            (None, None, Err("Could not find home directory".to_owned())),
            (Some(at("real")), None, Ok(at("real"))),
            (Some(at("link")), None, Ok(at("real"))),
            (Some(at("real/inner/..")), Some("/x"), Ok(at("real"))),
            (Some(at("real/.")), None, Ok(at("real"))),
            (Some("/".to_owned()), None, Ok("/".to_owned())),
            (
                Some(at("no \"where\"")),
                None,
                Err(format!("CODEX_HOME points to {:?}, but that path does not exist", at("no \"where\""))),
            ),
            (
                Some(at("file")),
                None,
                Err(format!("CODEX_HOME points to {:?}, but that path is not a directory", at("file"))),
            ),
        ] {
            assert_eq!(
                found(codex_home.as_deref(), user),
                wanted.map(PathBuf::from),
                "{codex_home:?} {user:?}"
            );
        }
        let below_file = found(Some(&at("file/x")), None).unwrap_err();
        assert!(below_file.contains("CODEX_HOME") && below_file.contains("os error"), "{below_file}");
    }

    #[test]
    fn a_relative_home_is_resolved() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(find(Some(OsStr::new(".")), None).unwrap(), here);
    }

    #[test]
    fn dot_env_gives_what_may_be_set_and_survives_everything_else() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(dot_env(home.path()), []);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, wanted) in [
            (
                &b"A=1\nB='two words'\n# note\nexport C=\"x\"\n"[..],
                vec![pair("A", "1"), pair("B", "two words"), pair("C", "x")],
            ),
            (b"CODEX_HOME=/x\nCODEX_API_KEY=k\nMY_CODEX_=1\n", vec![pair("MY_CODEX_", "1")]),
            (b"\xef\xbb\xbfA=1\nnot an assignment\nB=2\n", vec![pair("A", "1"), pair("B", "2")]),
            (b"A=\n", vec![pair("A", "")]),
            (b"A=1\nA=2\n", vec![pair("A", "1"), pair("A", "2")]),
            (b"N=a\0b\nB=2", vec![pair("B", "2")]),
        ] {
            std::fs::write(home.path().join(".env"), text).unwrap();
            assert_eq!(dot_env(home.path()), wanted, "{:?}", String::from_utf8_lossy(text));
        }
        std::fs::remove_file(home.path().join(".env")).unwrap();
        std::fs::create_dir(home.path().join(".env")).unwrap();
        assert_eq!(dot_env(home.path()), []);
    }

    #[test]
    fn lines_that_repeat_each_other_do_not_fill_the_memory() {
        let home = tempfile::tempdir().unwrap();
        let mut text = String::from("A=0123456789abcdef\n");
        for (name, former) in ('B'..='Z').zip('A'..) {
            text += &format!("{name}=${{{former}}}${{{former}}}${{{former}}}${{{former}}}\n");
        }
        text += "LAST=1\n";
        std::fs::write(home.path().join(".env"), text).unwrap();
        let given = dot_env(home.path());
        assert_eq!(given[1], ("B".to_owned(), "0123456789abcdef".repeat(4)));
        assert!(given.iter().map(|(_, value)| value.len()).sum::<usize>() <= SUBSTITUTED_BYTES);
        assert!(!given.iter().any(|(name, _)| name == "LAST"), "what follows is not read in part");
        let many = format!("A={}\nB={}\n", "x".repeat(1000), "$A".repeat(400_000));
        std::fs::write(home.path().join(".env"), many).unwrap();
        let given = dot_env(home.path());
        assert_eq!(given.len(), 1, "and no line is read in part");
    }
}
