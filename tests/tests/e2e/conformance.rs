//! The conformance suite for others: ours passes all of it, and a server that is spoiled in one place is found out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use codex_conformance::{Subject, examine};
use codex_e2e::Server;
use codex_exec_server::client::{ClientOptions, Endpoint, carry};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// How a good server is spoiled.
#[derive(Debug, Clone)]
enum Spoil {
    /// The member at this pointer has this value.
    Set(&'static str, Value),
    /// The member at this pointer is missing.
    Remove(&'static str),
    /// The message does not come.
    Drop,
    /// It comes twice.
    Double,
    /// An answer becomes this error.
    Fail(i64),
    /// An error becomes this answer.
    Succeed(Value),
}

/// The faults: a section whose rules find it, which messages (the method of a notification, or of the request that is
/// answered), and what becomes of them.
fn faults() -> Vec<(&'static str, &'static str, Spoil)> {
    use Spoil::{Double, Drop, Fail, Remove, Set, Succeed};
    vec![
        ("5.1", "initialize", Remove("/result/sessionId")),
        ("5.1", "initialize", Set("/result/sessionId", json!(7))),
        ("5.1", "initialize", Set("/result/sessionId", json!("not-a-uuid"))),
        ("5.1", "initialize", Succeed(json!({"sessionId": "again"}))),
        ("5.2", "process/read", Succeed(json!({"chunks": [], "nextSeq": 1}))),
        ("4", "environment/info", Set("/id", json!("other"))),
        ("4", "environment/info", Set("/jsonrpc", json!("2.0"))),
        ("4.1", "process/read", Set("/error/code", json!(-32600))),
        ("4.2", "no/such/method", Set("/error/code", json!(-32600))),
        ("4.2", "no/such/method", Drop),
        ("8.1", "process/output", Set("/params/seq", json!(5))),
        ("8.1", "process/output", Drop),
        ("8.1", "process/output", Double),
        ("8.1", "process/output", Set("/params/chunk", json!("b3RoZXI="))),
        ("8.1", "process/output", Set("/params/stream", json!("stderr"))),
        ("8.1", "process/exited", Drop),
        ("8.1", "process/exited", Set("/params/exitCode", json!(0))),
        ("8.1", "process/closed", Drop),
        ("8.1", "process/closed", Set("/params/seq", json!(1))),
        ("8.1", "process/start", Set("/result/processId", json!("q"))),
        ("8.1", "process/start", Fail(-32600)),
        ("21.1", "process/start", Remove("/error/data")),
        ("8.2", "process/output", Set("/params/chunk", json!("QT0xCg=="))),
        ("8.3", "process/read", Set("/result/chunks", json!([]))),
        ("8.3", "process/read", Set("/result/nextSeq", json!(2))),
        ("8.3", "process/read", Set("/result/closed", json!(false))),
        ("8.4", "process/write", Set("/result/status", json!("accepted"))),
        ("8.4", "process/write", Fail(-32603)),
        ("8.5", "process/terminate", Set("/result/running", json!(true))),
        ("8.5", "process/signal", Fail(-32601)),
        ("8.6", "process/exited", Set("/params/exitCode", json!(-1))),
        ("9.1", "environment/info", Remove("/result/shell")),
        ("10.1", "fs/readFile", Set("/result/dataBase64", json!(""))),
        ("10.1", "fs/readFile", Set("/error/code", json!(-32603))),
        ("10.4", "fs/getMetadata", Remove("/result/size")),
        ("10.6", "fs/readDirectory", Set("/result/entries", json!([]))),
        ("10.7", "fs/walk", Remove("/result/truncated")),
        ("10.8", "fs/remove", Succeed(json!({}))),
        ("10.10", "fs/readBlock", Set("/result/eof", json!(true))),
        ("10.11", "fs/missingChanged", Drop),
        ("11.1", "http/request", Set("/error/code", json!(-32600))),
        ("x", "process/wait", Set("/result/exitCode", json!(1))),
    ]
}

impl Spoil {
    /// What comes instead of a message.
    fn of(&self, mut message: Value) -> Vec<Value> {
        match self {
            Self::Drop => return Vec::new(),
            Self::Double => return vec![message.clone(), message],
            Self::Set(pointer, value) => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                if let Some(Value::Object(parent)) = message.pointer_mut(parent) {
                    parent.insert(name.to_owned(), value.clone());
                }
            }
            Self::Remove(pointer) => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                if let Some(Value::Object(parent)) = message.pointer_mut(parent) {
                    parent.remove(name);
                }
            }
            Self::Fail(code) if message.get("result").is_some() => {
                message = json!({"id": message["id"], "error": {"code": code, "message": "spoiled"}});
            }
            Self::Succeed(result) if message.get("error").is_some() => {
                message = json!({"id": message["id"], "result": result});
            }
            Self::Fail(_) | Self::Succeed(_) => {}
        }
        vec![message]
    }
}

/// A way to the server that spoils the messages of one method.
fn spoiled(url: &str, method: &'static str, spoil: &Spoil) -> Endpoint {
    let (client, ours) = tokio::io::duplex(1 << 20);
    let (server, theirs) = tokio::io::duplex(1 << 20);
    let endpoint = Endpoint::WebSocket { url: url.to_owned(), bearer: None };
    let spoil = spoil.clone();
    tokio::spawn(async move {
        let (input, output) = tokio::io::split(theirs);
        let options = ClientOptions::default();
        let carrying = carry(endpoint, &options, input, output);
        tokio::select! {
            _ = carrying => {}
            () = between(ours, server, method, spoil) => {}
        }
    });
    Endpoint::Stream(client)
}

async fn between(client: DuplexStream, server: DuplexStream, method: &'static str, spoil: Spoil) {
    let asked: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_server, mut to_server) = tokio::io::split(server);
    let remembered = Arc::clone(&asked);
    let there = async move {
        let mut lines = BufReader::new(from_client).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(message) = serde_json::from_str::<Value>(&line) {
                let name = message["method"].as_str().unwrap_or_default().to_owned();
                remembered.lock().insert(message["id"].to_string(), name);
            }
            to_server.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
        let _ = to_server.shutdown().await;
        std::future::pending::<()>().await;
    };
    let back = async move {
        let mut lines = BufReader::new(from_server).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap();
            let of = match message["method"].as_str() {
                Some(name) => name.to_owned(),
                None => asked.lock().get(&message["id"].to_string()).cloned().unwrap_or_default(),
            };
            let spoiled = if of == method { spoil.of(message) } else { vec![message] };
            for message in spoiled {
                if to_client.write_all(format!("{message}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! { () = there => {}, () = back => {} }
}

/// Ours is reached by websocket: it keeps every rule, the additions too.
#[tokio::test]
async fn ours_keeps_every_rule() {
    let server = Server::start().await;
    let output = tokio::process::Command::new(codex_e2e::binary::codex())
        .args(["exec-server", "conformance", "--url", &server.url])
        .output()
        .await
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !report.contains("BROKEN"), "{report}");
    assert!(!report.contains("skipped") && !report.contains("not offered"), "{report}");
    for line in ["8.4     must      ok", "10.7    must      ok", "what released clients depend on"] {
        assert!(report.contains(line), "{report}");
    }
}

#[tokio::test]
async fn over_pipes_only_what_needs_a_second_connection_is_left_out() {
    let codex = codex_e2e::binary::codex();
    let output = tokio::process::Command::new(codex)
        .args(["exec-server", "conformance", "--section", "5", "--"])
        .arg(codex)
        .args(["exec-server", "--listen", "stdio"])
        .output()
        .await
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !report.contains("BROKEN"), "{report}");
    assert_eq!(report.matches("skipped").count(), 1, "{report}");
    let nobody = tokio::process::Command::new(codex)
        .args(["exec-server", "conformance", "--section", "5", "--", "/bin/true"])
        .output()
        .await
        .unwrap();
    let report = String::from_utf8(nobody.stdout).unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{report}");
    assert!(report.contains("BROKEN"), "{report}");
}

#[tokio::test]
async fn every_seeded_fault_is_found() {
    let server = Server::start().await;
    let faults = faults();
    assert!(faults.len() >= 30);
    let found = faults.into_iter().map(|(section, method, spoil)| {
        let url = server.url.clone();
        async move {
            let told = format!("{section} {method} {spoil:?}");
            let endpoint = move || spoiled(&url, method, &spoil);
            let subject = Subject {
                endpoint: Box::new(endpoint),
                options: ClientOptions::default(),
                http: None,
                resumes: false,
                // A message that never comes is waited for so long.
                patience: Duration::from_secs(5),
            };
            let report = examine(&subject, Some(section)).await.unwrap();
            assert!(!report.is_empty(), "{told}: no rule asks for it");
            (told, report.broken().count())
        }
    });
    let found = futures_util::future::join_all(found).await;
    let missed: Vec<_> = found.iter().filter(|(_, broken)| *broken == 0).map(|(told, _)| told).collect();
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
