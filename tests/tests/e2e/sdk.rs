//! The clients in other languages, each by its own tests, against the built server.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The websocket library that the Python client was tested with.
const WEBSOCKETS: &str = "websockets==17.4";

/// Runs a program; what it says when it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = || [output.stdout.as_slice(), &output.stderr].concat();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&said()))),
    }
}

/// In CI what a test needs can be installed; elsewhere it is left out, and that is said.
fn ready(prepared: Result<(), String>) -> bool {
    match prepared {
        Ok(()) => true,
        Err(why) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {why}");
            false
        }
        Err(why) => panic!("{why}"),
    }
}

fn sdk(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk").join(language)
}

#[test]
fn the_python_client_passes_its_tests() {
    let ground = tempfile::tempdir().unwrap();
    let venv = ground.path().join("venv");
    let python = venv.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", WEBSOCKETS];
    let prepared = run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .and_then(|()| run(Command::new(&python).args(install)));
    if !ready(prepared) {
        return;
    }
    let mut tests = Command::new(&python);
    tests.arg("-B").arg(sdk("python").join("tests/test_sdk.py"));
    tests.env("PYTHONPATH", sdk("python")).env("CODEX_BINARY", codex_e2e::binary::codex());
    run(&mut tests).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn the_typescript_client_passes_its_tests() {
    let ground = tempfile::tempdir().unwrap();
    // What is built lies beside a copy of the sources.
    let here = ground.path().join("typescript");
    let prepared = run(Command::new("cp").arg("-r").arg(sdk("typescript")).arg(&here)).and_then(|()| {
        run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&here))
    });
    if !ready(prepared) {
        return;
    }
    run(Command::new("npx").args(["--no-install", "tsc"]).current_dir(&here))
        .unwrap_or_else(|why| panic!("{why}"));
    let mut tests = Command::new("node");
    tests.args(["--test", "tests/"]).current_dir(&here).env("CODEX_BINARY", codex_e2e::binary::codex());
    run(&mut tests).unwrap_or_else(|why| panic!("{why}"));
}

/// What a client's sources call, and what they take for notifications, are words of the protocol.
#[test]
fn the_clients_use_words_of_the_schema() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.schema.json");
    let schema: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(page).unwrap()).unwrap();
    let mut found = 0;
    for folder in [sdk("python").join("codex_exec"), sdk("typescript").join("src")] {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for (at, _) in text.match_indices('"') {
                let rest = &text[at + 1..];
                let word = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').unwrap_or(0)];
                let families = ["process/", "fs/", "http/", "session/", "environment/"];
                if families.iter().any(|family| word.starts_with(family)) {
                    let is_known =
                        ["methods", "notifications"].iter().any(|list| schema[list][word].is_object());
                    assert!(is_known, "{}: {word}", path.display());
                    found += 1;
                }
            }
        }
    }
    assert!(found > 40, "only {found} were found: does this test still see them?");
}
