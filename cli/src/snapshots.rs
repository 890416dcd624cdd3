//! What the parser tells people, as they see it: the help of each command, and what typical slips are answered with.
//! `CODEX_UPDATE_DOCS=1 cargo test -p codex-cli` rewrites the files.

use std::fmt::Write as _;
use std::path::Path;

use crate::tree;

/// As wide as a terminal is shown, whatever the test's own is.
const WIDTH: usize = 100;

/// Slips that people make.
const SLIPS: [&str; 23] = [
    "codex nosuch",
    "codex exec-server nosuch",
    "codex exec-server --listen",
    "codex exec-server run",
    "codex exec-server run true",
    "codex exec-server run --timeout soon -- true",
    "codex exec-server run --keep 8h -- true",
    "codex exec-server run -d --timeout 3 -- true",
    "codex exec-server run -e A -- true",
    "codex exec-server run -E box --url ws://x -- true",
    "codex exec-server run --url http://x -- true",
    "codex exec-server run --registry https://x -- true",
    "codex exec-server run --environment-id x -- true",
    "codex exec-server ps --format {{.Nosuch}}",
    "codex exec-server ps -f state=up",
    "codex exec-server ps -q --json",
    "codex exec-server logs",
    "codex exec-server logs --tail few x",
    "codex exec-server logs --since soon x",
    "codex exec-server logs --stream stdin x",
    "codex exec-server env add",
    "codex exec-server env add a wss://x -- program",
    "codex exec-server port-forward",
];

/// The help of a command and of all below it that are shown.
fn helps(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.clone().bin_name(path).render_long_help();
    let _ = write!(text, "$ {path} --help\n{help}\n");
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        if let Some(command) = command.find_subcommand_mut(&name) {
            helps(command, &format!("{path} {name}"), text);
        }
    }
}

fn slips() -> String {
    let mut text = String::new();
    for line in SLIPS {
        let told = tree().term_width(WIDTH).try_get_matches_from(line.split(' ')).unwrap_err();
        let _ = write!(text, "$ {line}\n{told}exit code {}\n\n", told.exit_code());
    }
    text
}

#[track_caller]
fn is_as_written(name: &str, text: &str) {
    // Trailing spaces mean nothing to a reader, and editors take them away.
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/snapshots").join(name);
    if std::env::var_os("CODEX_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).find(|(written, now)| written != now);
    assert!(
        written == text,
        "tests/snapshots/{name} is stale: CODEX_UPDATE_DOCS=1 cargo test -p codex-cli; first change: {differs:?}"
    );
}

#[test]
fn the_help_of_each_command_is_as_written() {
    let mut command = tree().term_width(WIDTH);
    command.build();
    let mut text = String::new();
    helps(&mut command, "codex", &mut text);
    is_as_written("help.txt", &text);
}

#[test]
fn the_help_of_each_command_has_an_example_and_its_exit_codes() {
    let mut command = tree();
    command.build();
    let mut commands = vec![&command];
    while let Some(command) = commands.pop() {
        let shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
        commands.extend(command.get_subcommands().filter(shown));
        let end = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let words = format!(
            "  codex {}",
            command.get_bin_name().unwrap_or_default().trim_start_matches("codex").trim()
        );
        assert!(end.contains("Example") && end.contains(words.trim_end()), "{words}: {end}");
        assert!(end.contains("Exit code"), "{words}: {end}");
    }
}

#[test]
fn typical_slips_are_answered_as_written() {
    is_as_written("slips.txt", &slips());
}
