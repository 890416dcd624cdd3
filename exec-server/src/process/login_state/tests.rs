//! Which requests have a login remembered, and what is the same for all of them.

use std::ffi::{OsStr, OsString};

use serde_json::{Value, json};

use super::*;

fn params(argv: &[&str], more: Value) -> StartParams {
    let mut all = json!({"processId": "p", "argv": argv, "cwd": "/", "env": {}, "tty": false});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

#[test]
fn only_bash_and_zsh_with_lc_and_the_snapshots_own_shell_are_changed() {
    let snapshot = |name: &str, path: &str| json!({"shellSnapshot": {"scopeId": "s", "shell": {"name": name, "path": path}}});
    let of_bash = snapshot("bash", "/bin/bash");
    let remembered = json!({"loginEnvironment": "remembered"});
    for (argv, more, changes) in [
        (&["/bin/bash", "-lc", "x"][..], &of_bash, true),
        (&["/bin/bash", "-lc", "x"], &remembered, true),
        (&["bash", "-lc", "x"], &remembered, true),
        (&["/bin/bash", "-lc", "x"], &json!({}), false),
        (&["/bin/bash", "-c", "x"], &of_bash, false),
        (&["/bin/bash", "-lc", "x", "y"], &of_bash, false),
        (&["/bin/bash", "-lc"], &of_bash, false),
        (&["/usr/bin/bash", "-lc", "x"], &of_bash, false),
        (&["/bin/zsh", "-lc", "x"], &snapshot("zsh", "/bin/zsh"), true),
        (&["/bin/zsh", "-lc", "x"], &of_bash, false),
        (&["/bin/zsh", "-lc", "x"], &snapshot("bash", "/bin/zsh"), false),
        (&["/bin/sh", "-lc", "x"], &remembered, false),
    ] {
        assert_eq!(LoginShell::of(&params(argv, more.clone())).is_some(), changes, "{argv:?} {more}");
    }
    let mut other_name = params(&["/bin/bash", "-lc", "x"], of_bash.clone());
    other_name.arg0 = Some("-bash".into());
    assert_eq!(LoginShell::of(&other_name), None);
    let bad = json!({"processId": "p", "argv": ["x"], "cwd": "/", "env": {}, "tty": false, "loginEnvironment": "other"});
    assert!(serde_json::from_value::<StartParams>(bad).is_err());
}

#[test]
fn a_command_reads_its_state_in_the_words_of_released_servers() {
    let read = |number| {
        format!(
            "if ! . /dev/fd/{number} >/dev/null; then printf 'failed to restore shell snapshot\\n' >&2; fi"
        )
    };
    for (language, number, has_aliases, flag, text) in [
        (Language::Bash, 3, false, "-pc", format!("set +o privileged\n{}\necho 'a'", read(3))),
        (Language::Bash, 4, false, "-pc", format!("set +o privileged\n{}\necho 'a'", read(4))),
        (Language::Zsh, 3, false, "-fc", format!("setopt RCS\n{}\necho 'a'", read(3))),
        (Language::Zsh, 4, true, "-fc", format!("setopt RCS\n{}\neval {}", read(4), r"'echo '\''a'\'''")),
    ] {
        let command = language.with_state("/bin/it", "echo 'a'", number, has_aliases);
        assert_eq!(command, ["/bin/it", flag, text.as_str()]);
    }
}

#[test]
fn a_state_is_one_environments_but_for_what_passes_with_each_command() {
    let login = LoginShell { language: Language::Bash, shell: "/bin/bash", scope: "s", text: "x" };
    let env = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    };
    let at = Path::new("/");
    let base = key(login, &env(&[("A", "1")]), at, &[]);
    assert_eq!(base, key(LoginShell { text: "y", ..login }, &env(&[("A", "1")]), at, &[]));
    for other in [
        key(login, &env(&[("A", "2")]), at, &[]),
        key(login, &env(&[("A", "1"), ("B", "")]), at, &[]),
        key(LoginShell { scope: "t", ..login }, &env(&[("A", "1")]), at, &[]),
        key(LoginShell { shell: "bash", ..login }, &env(&[("A", "1")]), at, &[]),
        key(login, &env(&[("A", "1")]), Path::new("/tmp"), &[]),
        key(login, &env(&[("A", "1")]), at, b"walls"),
    ] {
        assert_ne!(base, other);
    }
    assert!(is_passing(OsStr::new("CODEX_TOOL_CALL_ID")) && !is_passing(OsStr::new("PATH")));
}

#[test]
fn at_the_bound_the_oldest_state_goes() {
    let states = LoginStates::default();
    let state = |made| State { script: None, files: Stamps::default(), made };
    let begun = Instant::now();
    for number in 0..3 {
        let entry = states.entry([number; 32], 3);
        *entry.0.lock() = Some(state(begun + std::time::Duration::from_secs(number.into())));
    }
    states.entry([9; 32], 3);
    let mut left: Vec<u8> = states.0.lock().keys().map(|key| key[0]).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 9]);
}

#[test]
fn a_state_is_sealed_and_private() {
    let file = sealed(b":\n").unwrap();
    let found = rustix::fs::fstat(&file).unwrap();
    assert_eq!((found.st_mode & 0o777, found.st_size), (0o400, 2));
    assert!(rustix::io::write(&file, b"x").is_err() && rustix::fs::ftruncate(&file, 0).is_err());
}
