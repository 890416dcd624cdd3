//! Finds the shell that clients are told of: one that is there, and that they can drive.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use codex_children::lookup;

/// Shells of the languages that clients write, as `SHELL -lc COMMAND`. Others (fish, tcsh, nu), and those that run nothing
/// or not everything (nologin, rbash), would fail at each command.
const DRIVABLE: [&str; 10] = ["bash", "zsh", "sh", "dash", "ash", "ksh", "ksh93", "mksh", "posh", "yash"];
/// Taken instead, the first that is there: most commands are written for bash.
const INSTEAD: [&str; 3] = ["bash", "zsh", "sh"];
/// Run nothing at all.
const REFUSING: [&str; 3] = ["nologin", "false", "true"];

/// The shells of the server's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shells {
    /// What clients are told.
    pub announced: PathBuf,
    /// `SHELL` of programs on terminals: what the user chose, if it can be run at all.
    pub on_terminals: OsString,
}

/// Chooses by what the passwd database says (`login`; none without an entry) and what is there; `path` is the server's own
/// `PATH`, searched after the usual directories.
#[must_use]
pub fn choose(login: Option<&OsStr>, path: Option<&OsStr>) -> Shells {
    let login = login.map(Path::new).filter(|shell| shell.is_absolute() && lookup::is_executable(shell));
    let named = |shell: &Path, names: &[&str]| {
        shell.file_name().is_some_and(|name| names.iter().any(|known| name == *known))
    };
    let announced =
        login.filter(|shell| named(shell, &DRIVABLE)).map_or_else(|| instead(path), Path::to_owned);
    let on_terminals = login.filter(|shell| !named(shell, &REFUSING)).unwrap_or(&announced).into();
    Shells { announced, on_terminals }
}

fn instead(path: Option<&OsStr>) -> PathBuf {
    let usual: Vec<(OsString, OsString)> = Vec::new();
    let own = path.map(|path| (OsString::from("PATH"), path.to_owned())).into_iter().collect();
    let find = |name: &&str| {
        let places = [&usual, &own];
        places
            .into_iter()
            .find_map(|env| Some(lookup::find(name.as_ref(), Path::new("/"), env).ok()?.into_owned()))
    };
    // Without any, every command fails, and says so.
    INSTEAD.iter().find_map(find).unwrap_or_else(|| "/bin/sh".into()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_announced_shell_is_there_and_can_be_driven() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = directory.path().join(name);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let other = instead(None);
        assert!(lookup::is_executable(&other), "{other:?}");
        for (name, mode, told, on_terminals) in [
            ("zsh", 0o755, true, true),
            ("dash", 0o755, true, true),
            ("fish", 0o755, false, true),
            ("nu", 0o755, false, true),
            ("tcsh", 0o755, false, true),
            ("rbash", 0o755, false, true),
            ("nologin", 0o755, false, false),
            ("bash", 0o644, false, false),
        ] {
            let shell = file(name, mode);
            let chosen = choose(Some(shell.as_os_str()), None);
            assert_eq!(chosen.announced, if told { &shell } else { &other }.as_path(), "{name}");
            assert_eq!(chosen.on_terminals, if on_terminals { &shell } else { &other }.as_os_str(), "{name}");
        }
        for login in [None, Some(""), Some("bash"), Some("/no/such/bash")] {
            let chosen = choose(login.map(OsStr::new), None);
            assert_eq!(
                (&chosen.announced, chosen.on_terminals.as_os_str()),
                (&other, other.as_os_str()),
                "{login:?}"
            );
        }
    }
}
