//! The official Python and TypeScript libraries as clients, each by a script of its own (`tests/mcp/`): both revisions, over
//! pipes and over HTTP. rmcp, the Rust one, is what the other tests speak with.

use std::path::{Path, PathBuf};

use codex_e2e::mcp::McpServer;

use crate::sdk::{ready, run};

/// The version that the script was written for; those of the TypeScript libraries are in `tests/mcp/package.json`.
const PYTHON_LIBRARY: &str = "mcp==2.3.0";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp").join(name)
}

async fn passes(mut command: tokio::process::Command) {
    let tools = McpServer::start(&[], &[]).await;
    command.arg(codex_e2e::binary::codex()).arg(&tools.url).kill_on_drop(true);
    // It has a dozen conversations; each waits for events only.
    let output = command.output().await.unwrap();
    assert!(output.status.success() && output.stdout == b"fine\n", "{output:?}");
}

#[tokio::test]
async fn the_official_python_library_uses_the_tools() {
    let ground = tempfile::tempdir().unwrap();
    let venv = ground.path().join("venv");
    let python = venv.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYTHON_LIBRARY];
    let prepared = run(std::process::Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .and_then(|()| run(std::process::Command::new(&python).args(install)));
    if ready(prepared) {
        let mut command = tokio::process::Command::new(&python);
        command.arg("-B").arg(script("official.py"));
        passes(command).await;
    }
}

#[tokio::test]
async fn the_official_typescript_libraries_use_the_tools() {
    let ground = tempfile::tempdir().unwrap();
    for name in ["official.mjs", "package.json", "package-lock.json"] {
        std::fs::copy(script(name), ground.path().join(name)).unwrap();
    }
    let mut npm = std::process::Command::new("npm");
    npm.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(ground.path());
    if ready(run(&mut npm)) {
        let mut command = tokio::process::Command::new("node");
        command.arg("official.mjs").current_dir(ground.path());
        passes(command).await;
    }
}
