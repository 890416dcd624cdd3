//! The tools over HTTP; their clients' requests go through an environment, so this is also the other direction.

use std::process::Command;

use codex_e2e::Server;
use codex_e2e::mcp::{McpServer, REVISIONS, Revision, environment, initialize};
use codex_mcp::behind::{EnvironmentHttp, FarHeader};
use serde_json::{Value, json};

#[tokio::test]
async fn a_second_client_goes_on_where_the_first_was_killed() {
    let server = Server::start().await;
    let way = EnvironmentHttp::new(environment(&server).await.http, []);
    let tools = McpServer::start(&[], &[]).await;
    for revision in REVISIONS {
        let first = tools.client(revision, &way, None).await;
        let go = tempfile::tempdir().unwrap();
        let gate = go.path().join("go");
        let command = format!("echo one; until test -e {}; do sleep 0.01; done; echo two", gate.display());
        let begun = first.data("exec", json!({"command": command, "yield_ms": 0})).await;
        drop(first);
        let second = tools.client(revision, &way, None).await;
        let list = second.data("exec_list", json!({})).await;
        let known = list["processes"].as_array().unwrap();
        assert!(known.iter().any(|line| line["process"] == begun["process"]), "{revision:?}: {list}");
        std::fs::write(&gate, "").unwrap();
        let look = json!({"process": begun["process"], "cursor": 0, "yield_ms": 45_000});
        let end = second.data("exec_read", look).await;
        assert_eq!(
            (&end["state"], &end["output"]),
            (&json!("exited"), &json!("one\ntwo\n")),
            "{revision:?}: {end}"
        );
    }
}

#[tokio::test]
async fn who_may_connect_is_decided_before_anything_else() {
    let tools = McpServer::start(
        &["--allow-origin", "https://good.example:443"],
        &[("CODEX_EXEC_SERVER_MCP_TOKEN", "sesame")],
    )
    .await;
    let host = tools.authority().to_owned();
    let bearer = "authorization: Bearer sesame\r\n";
    let accept = "content-type: application/json\r\naccept: application/json, text/event-stream\r\n";
    let cases = [
        ("/mcp", String::new(), "401"),
        ("/mcp", "authorization: Bearer sesam\r\n".into(), "401"),
        ("/mcp", "authorization: Basic sesame\r\n".into(), "401"),
        ("/mcp", bearer.into(), "200"),
        ("/mcp", format!("{bearer}origin: https://bad.example\r\n"), "403"),
        ("/mcp", format!("{bearer}origin: null\r\n"), "403"),
        ("/mcp", format!("{bearer}origin: https://good.example\r\n"), "200"),
        ("/", bearer.into(), "404"),
        ("/mcp/x", bearer.into(), "404"),
    ];
    for (path, headers, status) in cases {
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{accept}{headers}");
        let answer = tools.plain(&head, &initialize()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers:?}: {answer}");
    }
    let rebound = format!("POST /mcp HTTP/1.1\r\nhost: evil.example\r\n{accept}{bearer}");
    let answer = tools.plain(&rebound, &initialize()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    // With the token that a variable of the far machine holds, and one that is known here.
    let server = Server::builder().env("FAR_TOKEN", "sesame").start().await;
    let http = environment(&server).await.http;
    let far =
        FarHeader { name: "authorization".into(), before: "Bearer ".into(), variable: "FAR_TOKEN".into() };
    for (way, token) in
        [(EnvironmentHttp::new(http.clone(), [far]), None), (EnvironmentHttp::new(http, []), Some("sesame"))]
    {
        let client = tools.client(Revision::New, &way, token).await;
        assert_eq!(client.data("exec", json!({"argv": ["echo", "in"]})).await["output"], "in\n");
    }
}

#[tokio::test]
async fn an_open_door_needs_a_token() {
    let mut command = Command::new(codex_e2e::binary::codex());
    command.args(["exec-server", "mcp", "--http", "0.0.0.0:0"]).env_remove("CODEX_EXEC_SERVER_MCP_TOKEN");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--http-token-file"), "{output:?}");
}

#[test]
fn the_block_for_an_agent_starts_this_very_command() {
    for (agent, list) in [
        ("claude", "mcpServers"),
        ("cursor", "mcpServers"),
        ("vscode", "servers"),
        ("gemini", "mcpServers"),
        ("windsurf", "mcpServers"),
    ] {
        let mut command = Command::new(codex_e2e::binary::codex());
        command.args([
            "exec-server",
            "mcp",
            "--root",
            "/srv",
            "--print-config",
            agent,
            "--sandbox",
            "read-only",
        ]);
        let output = command.output().unwrap();
        let block: Value = serde_json::from_slice(&output.stdout).unwrap();
        let entry = &block[list]["machine"];
        assert_eq!(
            entry["args"],
            json!(["exec-server", "mcp", "--root", "/srv", "--sandbox", "read-only"]),
            "{agent}: {block}"
        );
        assert_eq!(entry["command"], codex_e2e::binary::codex().to_str().unwrap(), "{agent}");
    }
    let mut command = Command::new(codex_e2e::binary::codex());
    let output = command.args(["exec-server", "mcp", "--print-config=codex"]).output().unwrap();
    let block = String::from_utf8(output.stdout).unwrap();
    assert!(block.starts_with("[mcp_servers.machine]\ncommand = \"/"), "{block}");
    assert!(block.ends_with("args = [\"exec-server\", \"mcp\"]\n"), "{block}");
}
