//! What a sandbox costs: programs, files and output under a profile, against the same without one.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Context;
use crate::client::Connection;
use crate::machine::{check_total, timed};
use crate::report::{Bar, Row, median};

const FILE_BYTES: usize = 1024;
const MIB: u64 = 1 << 20;

/// The names of one profile's rows.
struct Profile {
    writes: bool,
    program: &'static str,
    file: &'static str,
    output: &'static str,
}

const PROFILES: [Profile; 2] = [
    Profile {
        writes: true,
        program: "/bin/true, workspace-write less plain, p50",
        file: "1 KiB fs/readFile, workspace-write, p50",
        output: "pipe output, workspace-write",
    },
    Profile {
        writes: false,
        program: "/bin/true, read-only less plain, p50",
        file: "1 KiB fs/readFile, read-only, p50",
        output: "pipe output, read-only",
    },
];

/// `/bin/true`, a 1 KiB `fs/readFile` and a flood of output, under each profile and plain in turn.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let workspace = tempfile::tempdir()?;
    std::fs::create_dir(workspace.path().join(".git"))?;
    let file = workspace.path().join("file");
    std::fs::write(&file, vec![0x5a_u8; FILE_BYTES])?;
    let server = context.server.start(&[])?;
    let mut rows = Vec::new();
    for profile in &PROFILES {
        let mut connection = server.connect()?;
        let sandbox = sandbox(&connection, workspace.path(), profile.writes)?;
        rows.push(programs(context, &mut connection, profile, &sandbox)?);
        rows.push(files(context, &mut connection, profile, &sandbox, &file)?);
        rows.push(output(context, &mut connection, profile, &sandbox)?);
    }
    Ok(rows)
}

/// The profile as clients send it: everything readable, the workspace and temporary files writable or not, no network.
fn sandbox(connection: &Connection, workspace: &Path, writes: bool) -> Result<Value> {
    let special =
        |value: Value, access: &str| json!({"path": {"type": "special", "value": value}, "access": access});
    let mut entries = vec![special(json!({"kind": "root"}), "read")];
    if writes {
        entries.push(special(json!({"kind": "project_roots"}), "write"));
        entries.push(special(json!({"kind": "tmpdir"}), "write"));
        for name in [".git", ".codex", ".agents"] {
            let mut protected = special(json!({"kind": "project_roots", "subpath": name}), "read");
            protected["missing_path_behavior"] = "skip".into();
            entries.push(protected);
        }
    }
    let workspace = connection.path(workspace.to_str().context("a temporary path in UTF-8")?);
    let files = json!({"type": "restricted", "entries": entries});
    Ok(json!({
        "permissions": {"type": "managed", "network": "restricted", "file_system": files},
        "cwd": workspace,
        "workspaceRoots": [workspace],
        "windowsSandboxLevel": "disabled",
    }))
}

fn start_params(connection: &Connection, process: &str, argv: &[&str], sandbox: &Value) -> String {
    let env = json!({"PATH": "/usr/bin:/bin"});
    json!({"processId": process, "argv": argv, "cwd": connection.path("/"), "env": env, "tty": false,
        "arg0": null, "pipeStdin": false, "sandbox": sandbox})
    .to_string()
}

/// Milliseconds from start to closed, more than without a sandbox.
fn programs(
    context: &Context<'_>,
    connection: &mut Connection,
    profile: &Profile,
    sandbox: &Value,
) -> Result<Row> {
    let mut samples = [Vec::new(), Vec::new()];
    for index in 0..context.pick(300, 60) {
        for (kind, sandbox) in [&Value::Null, sandbox].into_iter().enumerate() {
            let process = format!("true-{kind}-{index}");
            let params = start_params(connection, &process, &["/bin/true"], sandbox);
            let (seconds, _) = timed(|| {
                connection.send("process/start", &params)?;
                connection.drain(&process)
            })?;
            samples[kind].push(seconds * 1e3);
        }
    }
    let [plain, confined] = samples.map(|kind| median(&kind));
    Ok(Row::new(profile.program, "ms", confined - plain, Bar::AtMost(1.5)).against(plain))
}

fn files(
    context: &Context<'_>,
    connection: &mut Connection,
    profile: &Profile,
    sandbox: &Value,
    file: &Path,
) -> Result<Row> {
    let path = connection.path(file.to_str().context("a temporary path in UTF-8")?);
    let kinds = [&Value::Null, sandbox].map(|sandbox| json!({"path": path, "sandbox": sandbox}).to_string());
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..context.pick(2000, 400) {
        for (params, samples) in kinds.iter().zip(&mut samples) {
            let (seconds, body) = timed(|| connection.call("fs/readFile", params))?;
            if body.len() < FILE_BYTES.div_ceil(3) * 4 {
                bail!("{} bytes came for a file of {FILE_BYTES} in base64", body.len());
            }
            samples.push(seconds * 1e3);
        }
    }
    let [plain, confined] = samples.map(|kind| median(&kind));
    Ok(Row::new(profile.file, "ms", confined, Bar::RatioAtMost(2.0)).against(plain))
}

fn output(
    context: &Context<'_>,
    connection: &mut Connection,
    profile: &Profile,
    sandbox: &Value,
) -> Result<Row> {
    let size = context.pick(512, 256) * MIB;
    let text = size.to_string();
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..context.pick(11, 5) {
        for (kind, sandbox) in [&Value::Null, sandbox].into_iter().enumerate() {
            let process = format!("flood-{kind}-{round}");
            let argv = ["head", "-c", &text, "/dev/zero"];
            let params = start_params(connection, &process, &argv, sandbox);
            let (seconds, total) = timed(|| {
                connection.send("process/start", &params)?;
                connection.drain(&process)
            })?;
            check_total(total, size)?;
            samples[kind].push(size as f64 / 1e9 / seconds);
        }
    }
    let [plain, confined] = samples.map(|kind| median(&kind));
    Ok(Row::new(profile.output, "GB/s", confined, Bar::RatioAtLeast(0.95)).against(plain))
}
