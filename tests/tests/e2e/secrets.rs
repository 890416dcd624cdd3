//! Credentials of this program's own environment: no program that it starts gets them, whichever way it is started.

use std::process::Command;

use codex_e2e::client::start_params;
use codex_e2e::{Server, binary, secret};
use serde_json::json;

/// Ours, the sign-in's, and what says which workload is signed in.
const KEPT: [&str; 14] = [
    "CODEX_EXEC_SERVER_TOKEN",
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
    "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN",
    "CODEX_ACCESS_TOKEN",
    "CODEX_REFRESH_TOKEN",
    "CODEX_CONNECTORS_TOKEN",
    "CODEX_API_KEY",
    "CODEX_GUARDIAN_DECISIONS_API_KEY",
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_IDENTITY_TOKEN_SOURCE",
    "OPENAI_WORKLOAD_IDENTITY_CONTEXT",
    "OPENAI_SPIFFE_ID",
    "OPENAI_SPIFFE_AUDIENCE",
];
/// The user's own, for the programs.
const PASSED: [&str; 3] = ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN"];

/// What `env` printed has the one and not the other.
fn check(way: &str, printed: &str) {
    let has = |name: &str| printed.lines().any(|line| line.starts_with(&format!("{name}=")));
    for name in KEPT {
        assert!(!has(name), "{way}: a program gets {name}");
    }
    for name in PASSED {
        assert!(has(name), "{way}: no program gets {name}: {printed}");
    }
}

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEPT.map(|name| (name, secret!("kept"))).into_iter().chain(PASSED.map(|name| (name, "passed")))
}

#[test]
fn no_program_started_by_hand_inherits_a_credential_of_ours() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = directory.path().join("open");
    std::fs::write(&open, r#"{"type":"disabled"}"#).expect("written");
    let mut ways =
        vec![vec!["exec-server", "run"], vec!["sandbox", "--profile", open.to_str().expect("text")]];
    if crate::sandbox::enforceable() {
        ways.push(vec!["sandbox"]);
        ways.push(vec!["sandbox", "--profile", "workspace-write"]);
    }
    for way in ways {
        let mut command = Command::new(binary::codex());
        command.args(&way).args(["--", "/usr/bin/env"]).envs(all()).current_dir(directory.path());
        let output = command.env("CODEX_HOME", directory.path()).output().expect("it runs");
        assert!(output.status.success(), "{way:?}: {}", String::from_utf8_lossy(&output.stderr));
        check(&way.join(" "), &String::from_utf8_lossy(&output.stdout));
    }
}

#[tokio::test]
async fn no_program_of_a_server_inherits_a_credential_of_ours() {
    let mut builder = Server::builder();
    for (name, value) in all() {
        builder = builder.env(name, value);
    }
    let server = builder.start().await;
    let mut client = server.client().await;
    let everything = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {},
        "includeOnly": []});
    let read_only = json!({"permissions": {"type": "managed", "network": "restricted", "file_system": {
        "type": "restricted", "entries": [{"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"}]}},
        "cwd": "file:///", "windowsSandboxLevel": "disabled"});
    let sandboxes =
        if crate::sandbox::enforceable() { vec![json!(null), read_only] } else { vec![json!(null)] };
    for (round, sandbox) in sandboxes.into_iter().enumerate() {
        for tty in [false, true] {
            let id = format!("p{round}{tty}");
            let more = json!({"envPolicy": everything, "sandbox": sandbox, "tty": tty});
            client.ok("process/start", start_params(&id, ["/usr/bin/env"], more)).await;
            let ended = client.finish(&id).await;
            let printed = format!("{}{}", ended.stdout(), ended.text("pty")).replace('\r', "");
            check(&format!("process/start with a sandbox {round}, a terminal {tty}"), &printed);
        }
    }
}

#[tokio::test]
async fn a_client_says_by_metadata_alone_whose_call_a_program_is() {
    let server = Server::builder().env("CODEX_TOOL_CALL_ID", "ours").start().await;
    let mut client = server.client().await;
    let more = json!({
        "metadata": {"threadId": "67E5504410B1426F9247BB680E5FE0C8", "toolCallId": "call-1"},
        "envPolicy": {"inherit": "all", "ignoreDefaultExcludes": true, "exclude": ["CODEX_*"],
            "set": {"CODEX_TOOL_CALL_ID": "set", "OPENAI_SPIFFE_ID": "set"}, "includeOnly": ["PATH"]},
        "env": {"CODEX_TOOL_CALL_ID": "env", "CODEX_THREAD_ID": "env", "OPENAI_IDENTITY_TOKEN_FILE": "env", "A": "1"},
    });
    client.ok("process/start", start_params("p", ["/usr/bin/env"], more)).await;
    let printed = client.finish("p").await.stdout();
    let mut lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with("PATH=")).collect();
    lines.sort_unstable();
    let thread = "CODEX_THREAD_ID=67e55044-10b1-426f-9247-bb680e5fe0c8";
    assert_eq!(lines, ["A=1", thread, "CODEX_TOOL_CALL_ID=call-1"]);
    let more = json!({"envPolicy": null, "env": {"CODEX_TOOL_CALL_ID": "env", "A": "1"}});
    client.ok("process/start", start_params("q", ["/usr/bin/env"], more)).await;
    assert_eq!(client.finish("q").await.stdout(), "A=1\n");
}
