//! Finds the `codex` binary that the tests run, built from the sources as they are now.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The built binary. `cargo test` does not build another package's binary, so the first caller asks cargo for it,
/// in the profile and target directory of the test itself; `CODEX_E2E_BINARY` names a ready one instead.
pub fn codex() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("CODEX_E2E_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// Runs the binary with a full disk as its stdout, until it says that this is a failure: 1 and a sentence.
pub fn fails_on_a_full_disk(arguments: &[&str], stdin: Stdio) {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
    let mut command = Command::new(codex());
    command.args(arguments).stdin(stdin).stdout(full).stderr(Stdio::piped());
    let output = command.spawn().and_then(Child::wait_with_output).expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("can't write to stdout") && stderr.contains("No space left"), "{stderr}");
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own file");
    // target/<profile>/deps/e2e-<hash>
    let profile_dir = test.parent().and_then(Path::parent).expect("the test lies in target/<profile>/deps");
    let target_dir = profile_dir.parent().expect("the profile directory lies in a target directory");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        // The whole workspace and a test, so that features resolve as they did for the tests and nothing is built twice.
        .args(["build", "--workspace", "--bin", "codex", "--test", "e2e", "--quiet", "--target-dir"])
        .arg(target_dir)
        .stdin(Stdio::null());
    // What cargo tells a test about itself, build scripts would take for a change, and half of the dependencies were
    // built anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_CRATE_NAME"
        {
            command.env_remove(&*name);
        }
    }
    if profile_dir.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "building the codex binary failed: {status}");
    profile_dir.join("codex")
}
