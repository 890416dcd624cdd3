//! The start-up files of a login shell, and whether they are as they were.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::language::Language;
use super::variables::{Variables, home};

/// What shells read at a login, and what systems have them read.
const OF_SYSTEM: [&str; 4] = ["/etc/profile", "/etc/profile.d", "/etc/environment", "/etc/locale.conf"];
/// What bash reads besides, and systems have it read.
const OF_BASH: [&str; 2] = ["/etc/bash.bashrc", "/etc/bashrc"];
/// What zsh reads, in one of two directories.
const OF_ZSH: [&str; 6] = [
    "/etc/zsh/zshenv",
    "/etc/zsh/zprofile",
    "/etc/zsh/zlogin",
    "/etc/zshenv",
    "/etc/zprofile",
    "/etc/zlogin",
];
/// Those of the user, for bash.
const OF_BASH_USER: [&str; 6] =
    [".bash_profile", ".bash_login", ".profile", ".bashrc", ".bash_aliases", ".bash_functions"];
/// Those of the user, for zsh; also where `ZDOTDIR` says.
const OF_ZSH_USER: [&str; 5] = [".zshenv", ".zprofile", ".zlogin", ".zshrc", ".profile"];
/// Files looked at, at most. Those beyond are not noticed before the hour is over.
const MOST: usize = 512;
/// How much of a file is searched for the files that it reads. A safeguard, far from any real use.
const SEARCHED_BYTES: u64 = 256 << 10;

/// What tells a file from another, and from its state before and after a change.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// Files by their paths, and what they were like; a missing one may come.
#[derive(Debug, Default)]
pub(super) struct Stamps(BTreeMap<PathBuf, Stamp>);

impl Stamps {
    /// The stamps of the files that a login shell reads in this environment.
    pub(super) fn take(language: Language, env: &Variables) -> Self {
        let mut stamps = Self::default();
        stamps.add(language, env);
        stamps
    }

    /// Adds those that show only with the variables that the shell has afterwards. Those that are known stay as they were.
    pub(super) fn add(&mut self, language: Language, env: &Variables) {
        let mut queue: VecDeque<PathBuf> = OF_SYSTEM.iter().map(PathBuf::from).collect();
        queue.extend(of_language(language, env));
        let mut seen = std::collections::HashSet::new();
        while let Some(path) = queue.pop_front() {
            if self.0.len() >= MOST || !seen.insert(path.clone()) {
                continue;
            }
            let found = stamp(&path);
            self.0.entry(path.clone()).or_insert(found);
            if found.is_some() {
                queue.extend(read_by(&path, env));
            }
        }
    }

    /// Whether all are as they were.
    pub(super) fn are_unchanged(&self) -> bool {
        self.0.iter().all(|(path, known)| stamp(path) == *known)
    }
}

fn of_language(language: Language, env: &Variables) -> Vec<PathBuf> {
    let named =
        |variable: &str| env.iter().find(|(name, _)| name == variable).map(|(_, path)| PathBuf::from(path));
    let (system, user, elsewhere) = match language {
        Language::Bash => (&OF_BASH[..], &OF_BASH_USER[..], None),
        Language::Zsh => (&OF_ZSH[..], &OF_ZSH_USER[..], named("ZDOTDIR")),
    };
    let of_user = home(env).into_iter().chain(elsewhere);
    let of_user = of_user.flat_map(|directory| user.iter().map(move |name| directory.join(name)));
    let more = if language == Language::Bash { named("BASH_ENV") } else { None };
    system.iter().map(PathBuf::from).chain(of_user).chain(more).collect()
}

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

/// What a directory holds, or what a script reads as far as its text tells.
fn read_by(path: &Path, env: &Variables) -> Vec<PathBuf> {
    if let Ok(entries) = std::fs::read_dir(path) {
        return entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    }
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Vec::new();
    }
    let mut text = Vec::new();
    // What became a named pipe meanwhile is not waited for.
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let read = opened.and_then(|file| file.take(SEARCHED_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let commands = text.split(['\n', ';', '&', '|', '{', '(', ')']).map(str::trim_start);
    commands.filter_map(|command| sourced(command, env)).flatten().collect()
}

/// The files that a command reads, if it is one that reads files: `. PATH` or `source PATH`.
fn sourced(command: &str, env: &Variables) -> Option<Vec<PathBuf>> {
    let mut words =
        command.split_whitespace().skip_while(|word| ["then", "do", "else", "builtin"].contains(word));
    if ![".", "\\.", "source", "\\source"].contains(&words.next()?) {
        return None;
    }
    let path = PathBuf::from(expanded(words.next()?, env)?);
    if !path.is_absolute() {
        return None;
    }
    // A pattern stands for what is in its directory.
    let pattern = path.as_os_str().as_bytes().iter().any(|byte| b"*?[".contains(byte));
    Some(if pattern { path.parent().map(Path::to_owned).into_iter().collect() } else { vec![path] })
}

/// A word with its variables put in; none where that takes more than a look.
fn expanded(word: &str, env: &Variables) -> Option<OsString> {
    let variable =
        |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str());
    let mut word: String = word.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    if let Some(rest) = word.strip_prefix('~') {
        word = format!("$HOME{rest}");
    }
    let mut path = OsString::new();
    let mut rest = word.as_str();
    while let Some((before, behind)) = rest.split_once('$') {
        path.push(before);
        let (name, after) = match behind.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => behind.split_at(
                behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len()),
            ),
        };
        path.push(variable(name).filter(|value| !value.is_empty())?);
        rest = after;
    }
    path.push(OsStr::new(rest));
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_reads_is_seen_in_its_usual_forms() {
        let env: Vec<(OsString, OsString)> =
            [("HOME", "/h"), ("NVM_DIR", "/h/.nvm")].map(|(name, value)| (name.into(), value.into())).into();
        for (command, file) in [
            (". \"$HOME/.cargo/env\"", Some("/h/.cargo/env")),
            ("source ~/.aliases", Some("/h/.aliases")),
            ("\\. \"$NVM_DIR/nvm.sh\"", Some("/h/.nvm/nvm.sh")),
            ("then . ${HOME}/x", Some("/h/x")),
            (". /etc/profile.d/*.sh", Some("/etc/profile.d")),
            (". relative", None),
            (". $UNKNOWN/x", None),
            (". ${HOME:-/x}/y", None),
            ("echo . /x", None),
            ("source", None),
        ] {
            let expected = file.map(|file| vec![PathBuf::from(file)]);
            assert_eq!(sourced(command, &env), expected, "{command}");
        }
    }

    #[test]
    fn a_change_of_any_file_on_the_way_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let env: Vec<(OsString, OsString)> = vec![("HOME".into(), dir.path().into())];
        std::fs::write(at(".profile"), "[ -s \"$HOME/a\" ] && . \"$HOME/a\"\n").unwrap();
        std::fs::write(at("a"), "if true; then . $HOME/b; fi\n").unwrap();
        std::fs::write(at("b"), "X=1\n").unwrap();
        let taken = || Stamps::take(Language::Bash, &env);
        let before = taken();
        assert!(before.are_unchanged());
        std::fs::write(at("b"), "X=22\n").unwrap();
        assert!(!before.are_unchanged(), "a file that is read by one that is read");
        let before = taken();
        std::fs::write(at(".bash_profile"), "").unwrap();
        assert!(!before.are_unchanged(), "a new file");
        let before = taken();
        std::fs::remove_file(at("a")).unwrap();
        assert!(!before.are_unchanged(), "a file that is gone");
        let elsewhere = vec![env[0].clone(), ("ZDOTDIR".into(), at("dot").into())];
        let before = Stamps::take(Language::Zsh, &elsewhere);
        std::fs::create_dir(at("dot")).unwrap();
        std::fs::write(at("dot/.zprofile"), "").unwrap();
        assert!(!before.are_unchanged(), "a file where a variable says");
    }
}
