//! The audit file of a rendezvous (`docs/audit.md`).

use std::path::Path;

use codex_observe::{Audit, Bounds, WithoutRoom};
use codex_rendezvous::tokens::Role;
use serde_json::{Value, json};

use crate::support::{Server, eventually, mint};

const BOUNDS: Bounds = Bounds { file_bytes: 1 << 20, old_files: 1, waiting: 64 };

async fn server(path: &Path, bounds: Bounds, without_room: WithoutRoom) -> Server {
    let audit = Audit::open(path, bounds, without_room).unwrap();
    Server::start_with(|config| config.audit = Some(audit)).await
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn requests_and_sockets_are_recorded_with_who_and_what_and_without_a_secret() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("audit");
    let server = server(&path, BOUNDS, WithoutRoom::Count).await;
    let executor = server.executor("env").await;
    let harness = server.harness("env").await;
    let (stranger, _) = mint(&[Role::Harness], "env");
    assert_eq!(server.post("/cloud/environment/env/connect", &stranger, None).await.0, 401);
    assert_eq!(server.get("/readyz").await.0, 200);
    drop((harness, executor));
    let (token, hash) = (server.token.clone(), server.grant.hash.short());
    eventually("both sockets have ended", async || {
        lines(&path).iter().filter(|line| line["method"] == "detached").count() == 2
    })
    .await;
    server.rendezvous.drain().await;
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in [token.as_str(), stranger.as_str(), "secret=", "ticket="] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let lines = lines(&path);
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["event"].as_str().unwrap(),
                line["method"].as_str().unwrap(),
                line["decision"].as_str().unwrap(),
            )
        })
        .collect();
    for expected in [
        ("request", "register", "allowed"),
        ("request", "connect", "allowed"),
        ("request", "connect", "refused"),
        ("request", "attach", "allowed"),
        ("socket", "attached", "allowed"),
        ("socket", "detached", "allowed"),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    assert_eq!(told.len(), 9, "{told:?}");
    for line in &lines {
        match line["method"].as_str().unwrap() {
            "attach" => assert_eq!(line["status"], 101, "{line}"),
            "connect" if line["decision"] == "refused" => {
                assert_eq!((&line["status"], &line["reason"]), (&json!(401), &json!("unauthorized")));
                assert_eq!(line["token"], Value::Null, "nobody knows the token: {line}");
            }
            _ => {
                assert_eq!((&line["token"], &line["token_hash"]), (&json!("test"), &json!(hash)), "{line}");
                assert_eq!(line["environment"], "env", "{line}");
            }
        }
        if line["event"] == "request" {
            assert!(line["peer"].as_str().unwrap().starts_with("tcp:127.0.0.1:"), "{line}");
        }
    }
}

#[tokio::test]
async fn where_records_are_required_a_request_without_room_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("audit");
    let server = server(&path, Bounds { waiting: 2, ..BOUNDS }, WithoutRoom::Refuse).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(
            server.post("/cloud/environment/away/connect", &server.token, Some(json!({}))).await.0,
            400
        );
    }
    let (status, body) = server.post("/cloud/environment/env/connect", &server.token, Some(json!({}))).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("no_audit")), "{body}");
    let (status, body) = server.post("/cloud/environment/env/register", &server.token, None).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("registration_conflict")), "{body}");
    assert_eq!(server.get("/readyz").await.0, 200);
    std::fs::remove_dir(&path).unwrap();
    eventually("there is room again", async || {
        server.post("/cloud/environment/env/register", &server.token, None).await.0 == 200
    })
    .await;
}
