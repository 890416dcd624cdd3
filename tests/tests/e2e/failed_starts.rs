//! Why a start failed, for programs to read (21.1).

use std::os::unix::fs::PermissionsExt as _;

use codex_e2e::client::start_params;
use codex_e2e::{Server, TestClient};
use serde_json::{Value, json};

/// The error that a request is answered with.
async fn error(client: &mut TestClient, method: &str, params: Value) -> Value {
    let id = client.send(method, params).await;
    let answer = client.until(|message| message["id"] == id && message.get("method").is_none()).await;
    answer.get("error").unwrap_or_else(|| panic!("not refused: {answer}")).clone()
}

fn managed(path: &str) -> Value {
    json!({
        "permissions": {"type": "managed", "network": "restricted", "file_system": {"type": "restricted", "entries": [
            {"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"},
            {"path": {"type": "path", "path": path}, "access": "write"},
        ]}},
        "cwd": "file:///tmp", "workspaceRoots": [], "windowsSandboxLevel": "disabled",
    })
}

#[tokio::test]
async fn a_failed_start_says_why_in_a_word_on_pipes_and_terminals() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, mode) in [("plain", 0o644), ("junk", 0o755)] {
        std::fs::write(at(name), "\u{1}\u{2} no program").unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let server = Server::start().await;
    let mut client = server.client().await;
    let long = "x".repeat(200_000);
    for (argv, cwd, kind) in [
        (vec![at("missing")], "/", "spawnNotFound"),
        (vec!["no-such-program-anywhere".into()], "/", "spawnNotFound"),
        (vec!["/bin/true".into()], &at("missing"), "spawnNotFound"),
        (vec![at("plain")], "/", "spawnPermissionDenied"),
        (vec!["/etc".into()], "/", "spawnPermissionDenied"),
        (vec![at("junk")], "/", "spawnFailed"),
        (vec!["/bin/true".into()], &at("plain"), "spawnFailed"),
        (vec!["/bin/true".into(), long], "/", "spawnFailed"),
        (vec!["/bin/true".into(), "a\0b".into()], "/", "spawnFailed"),
        (vec![String::new()], "/", "spawnFailed"),
    ] {
        for tty in [false, true] {
            let more = json!({"tty": tty, "cwd": cwd});
            let error = error(&mut client, "process/start", start_params("p", &argv, more)).await;
            let shown = argv[0].clone();
            assert_eq!(error["data"], json!({"kind": kind}), "{shown:?} in {cwd}, tty {tty}: {error}");
            assert_eq!(error["code"], -32603, "{error}");
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_had_says_so_and_no_other_refusal_has_such_a_word() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut of_windows = managed("file:///tmp");
    of_windows["windowsSandboxLevel"] = "mxc".into();
    let foreign = managed("file:///C:/x");
    let start = |id: &str, more: Value| start_params(id, ["/bin/sleep", "1000"], more);
    let mxc = error(&mut client, "process/start", start("p", json!({"sandbox": of_windows}))).await;
    let expected = json!({
        "code": -32602, "message": "native MXC is unavailable on this executor", "data": {"kind": "sandboxUnavailable"},
    });
    assert_eq!(mxc, expected);
    let unprepared =
        error(&mut client, "process/start", start("p", json!({"sandbox": foreign.clone()}))).await;
    assert_eq!(unprepared["code"], -32602);
    assert_eq!(unprepared["data"], json!({"kind": "sandboxPreparation"}));
    assert!(
        unprepared["message"].as_str().unwrap().starts_with("failed to prepare process sandbox: "),
        "{unprepared}"
    );

    client.start("taken", ["/bin/sleep", "1000"]).await;
    let read = json!({"path": "file:///tmp/x", "sandbox": foreign});
    for (method, params, code) in [
        ("process/start", json!({}), -32602),
        ("process/start", start_params("p", [""; 0], json!({})), -32602),
        ("process/start", start("taken", json!({})), -32600),
        ("process/start", start("p", json!({"cwd": "file:///C:/x"})), -32602),
        ("fs/readFile", read, -32602),
        ("fs/readFile", json!({"path": "file:///no/such/file"}), -32004),
    ] {
        let error = error(&mut client, method, params).await;
        assert_eq!((error["code"].as_i64(), error.get("data")), (Some(code), None), "{method}: {error}");
    }
}
