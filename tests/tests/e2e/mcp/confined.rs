//! Roots and sandboxes, and arguments that try to get out of them.

use std::os::unix::fs::symlink;
use std::path::Path;

use codex_e2e::mcp::{McpClient, Revision};
use rmcp::model::CallToolRequestParams;
use serde_json::json;

/// A root `in`, beside it what nobody may touch. Not in /tmp, which `workspace-write` lets be written.
fn ground() -> tempfile::TempDir {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = |path: &str| ground.path().join(path);
    for directory in ["in/sub", "out"] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    std::fs::write(at("out/secret"), "sesame").unwrap();
    std::fs::write(at("in/mine"), "mine").unwrap();
    symlink(at("out"), at("in/link")).unwrap();
    symlink(at("out/secret"), at("in/file_link")).unwrap();
    symlink(at("out/not_there"), at("in/dangling")).unwrap();
    symlink("mine", at("in/own_link")).unwrap();
    ground
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn no_path_leads_out_of_the_roots() {
    let ground = ground();
    let (root, out) = (ground.path().join("in"), ground.path().join("out"));
    let mcp = McpClient::stdio(Revision::Old, &["--root", text(&root)]).await;
    let uri = format!("file://{}/secret", text(&out));
    let outside = [
        "../out/secret",
        "link/secret",
        "file_link",
        "sub/../../out/secret",
        "sub/../link/secret",
        "/etc/passwd",
        &uri,
        text(&out),
        "~/",
        "/",
        "..",
    ];
    for path in outside {
        for (tool, arguments) in [
            ("read", json!({"path": path})),
            ("list", json!({"path": path})),
            ("glob", json!({"path": path, "pattern": "*"})),
            ("grep", json!({"path": path, "pattern": "sesame"})),
            ("write", json!({"path": path, "content": "x"})),
            ("edit", json!({"path": path, "old": "sesame", "new": "x"})),
            ("exec", json!({"cwd": path, "command": "cat secret"})),
        ] {
            let told = mcp.refusal(tool, arguments).await;
            assert!(told.contains("leads out of"), "{tool} {path}: {told}");
            assert!(!told.contains("sesame"), "{tool} {path}: {told}");
        }
    }
    for path in ["dangling", "link/new", "../out/new", "new/../../out/new", "own_link/../../out/new"] {
        let made = json!({"path": path, "content": "x", "create_directories": true});
        let told = mcp.refusal("write", made).await;
        assert!(told.len() > 10, "{path}: {told}");
    }
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(std::fs::read_to_string(out.join("secret")).unwrap(), "sesame");

    // And what is inside works, relative or not, through links too.
    assert_eq!(mcp.data("read", json!({"path": "own_link"})).await["content"], "mine");
    assert_eq!(mcp.data("read", json!({"path": text(&root.join("mine"))})).await["content"], "mine");
    mcp.data("write", json!({"path": "sub/../new/deep/er", "content": "x", "create_directories": true}))
        .await;
    assert_eq!(std::fs::read_to_string(root.join("new/deep/er")).unwrap(), "x");
    let here = mcp.data("exec", json!({"command": "pwd", "cwd": "sub"})).await;
    assert!(here["output"].as_str().unwrap().trim().ends_with("/in/sub"), "{here}");
    let environments = mcp.data("environments", json!({})).await;
    assert_eq!(environments["roots"], json!([root]), "{environments}");
}

#[tokio::test]
async fn a_sandbox_holds_programs_and_files() {
    let ground = ground();
    let root = ground.path().join("in");
    let mcp = McpClient::stdio(Revision::New, &["--root", text(&root), "--sandbox", "workspace-write"]).await;
    let names: Vec<_> = mcp.tools().await.into_iter().map(|tool| tool.name).collect();
    assert!(!names.iter().any(|name| name == "fetch"), "{names:?}");
    let tried = mcp
        .data("exec", json!({"command": "echo in > made; echo out > ../out/made; cat ../out/secret"}))
        .await;
    if tried["state"] == "exited" && tried["output"].as_str().unwrap().contains("can't be enforced") {
        eprintln!("SKIPPED: {tried}");
        return;
    }
    assert_eq!(std::fs::read_to_string(root.join("made")).unwrap(), "in\n", "{tried}");
    assert!(!ground.path().join("out/made").exists(), "{tried}");
    mcp.data("write", json!({"path": "by_tool", "content": "x"})).await;

    let mcp = McpClient::stdio(Revision::New, &["--cwd", text(&root), "--sandbox", "read-only"]).await;
    let exec = mcp.tools().await.remove(0);
    assert_eq!(exec.annotations.unwrap().read_only_hint, Some(true), "nothing can be changed");
    let tried = mcp.data("exec", json!({"command": "echo x > by_program", "cwd": "/"})).await;
    assert_ne!(tried["exit_code"], 0, "{tried}");
    mcp.refusal("write", json!({"path": "by_tool_2", "content": "x"})).await;
    // A call can't choose its own workspace.
    mcp.data("exec", json!({"command": "echo x > by_program", "cwd": text(&root)})).await;
    assert!(!root.join("by_program").exists() && !root.join("by_tool_2").exists());
    let params = CallToolRequestParams::new("fetch");
    let refused = mcp.service.call_tool(params).await.unwrap_err().to_string();
    assert!(refused.contains("there is no tool"), "{refused}");
}

#[tokio::test]
async fn variables_of_the_environment_are_shown_by_no_tool_that_was_not_asked_to() {
    let variables = [("A_TOKEN", "sesame-open-now")];
    let mcp = McpClient::with_variables(Revision::Old, &[], &variables).await;
    mcp.data("exec", json!({"argv": ["sh", "-c", "test -n \"$A_TOKEN\""]})).await;
    for (tool, arguments) in [
        ("environments", json!({})),
        ("exec_list", json!({})),
        ("exec", json!({"argv": ["true"]})),
        ("fetch", json!({"url": "http://127.0.0.1:1/$A_TOKEN", "headers": {"x": "$A_TOKEN"}})),
        ("read", json!({"path": "$A_TOKEN"})),
        ("glob", json!({"pattern": "$A_TOKEN", "path": "/etc"})),
    ] {
        let result = serde_json::to_string(&mcp.call(tool, arguments).await).unwrap();
        assert!(!result.contains("sesame-open-now"), "{tool}: {result}");
    }
    let asked = mcp.data("exec", json!({"command": "echo $A_TOKEN"})).await;
    assert_eq!(asked["output"], "sesame-open-now\n", "{asked}");
}
