//! Servers that only an environment reaches, over every way to it.

use std::sync::Arc;

use codex_e2e::http::{Answer, Asked, Origin, plain};
use codex_e2e::mcp::{McpServer, REVISIONS, Revision, client_at, environment, spoken_to_as_a_program, text};
use codex_e2e::{Server, binary};
use codex_exec_server::client::{Client, ClientOptions, Command, Endpoint, Stderr};
use codex_exec_server::environment::Environment;
use codex_mcp::behind::EnvironmentHttp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// Both kinds of servers, behind one environment; the same for every way to it.
pub(crate) async fn servers_are_reached(environment: &Environment) {
    let tools = McpServer::start(&[], &[]).await;
    let way = EnvironmentHttp::new(environment.http.clone(), []);
    for revision in REVISIONS {
        let client = tools.client(revision, &way, None).await;
        let done = client.data("exec", json!({"command": "echo over http"})).await;
        assert_eq!(done["output"], "over http\n", "{revision:?}");
        // An answer that comes as events, with progress before it.
        client.data("exec", json!({"command": "sleep 1.5"})).await;
        assert!(!client.heard.0.lock().is_empty(), "{revision:?}");
        let refused = client.refusal("read", json!({"path": "/no/such/file"})).await;
        assert!(refused.contains("No such file"), "{refused}");
        // The old revision has a session, which the client ends.
        client.service.cancel().await.unwrap();

        let codex = binary::codex().to_str().unwrap();
        let client = spoken_to_as_a_program(environment, revision, &[codex, "exec-server", "mcp"]).await;
        let done = client.data("exec", json!({"command": "echo as a program"})).await;
        assert_eq!(done["output"], "as a program\n", "{revision:?}");
    }
}

#[tokio::test]
async fn over_a_websocket() {
    let server = Server::start().await;
    servers_are_reached(&environment(&server).await).await;
}

#[tokio::test]
async fn over_pipes() {
    let endpoint = Endpoint::Command(Command {
        program: binary::codex().into(),
        args: ["exec-server", "--listen", "stdio"].map(String::from).into(),
        env: Default::default(),
        cwd: None,
        stderr: Stderr::Inherit,
    });
    let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
    servers_are_reached(&Environment::remote(client)).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_or_speaks_something_else_is_an_error() {
    let server = Server::start().await;
    let there = environment(&server).await;
    let way = EnvironmentHttp::new(there.http.clone(), []);
    for url in ["http://127.0.0.1:1/mcp".to_owned(), server.url.replace("ws://", "http://")] {
        let why = codex_e2e::mcp::not_spoken_to(&url, Revision::Old, &way).await;
        assert!(!why.is_empty(), "{url}");
    }
}

/// A server of the old revision that breaks streams off and forgets its sessions. What it was asked for, as lines.
async fn forgetful(told: Arc<Mutex<Vec<String>>>) -> Origin {
    let answer: Answer = Arc::new(move |asked: Asked, mut stream| {
        let told = Arc::clone(&told);
        Box::pin(async move {
            let header = |name: &str| {
                let lines = asked.head.lines().filter_map(|line| line.split_once(": "));
                lines
                    .filter(|(given, _)| given.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
                    .next()
            };
            let message: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            let (session, after) = (header("mcp-session-id"), header("last-event-id"));
            let what =
                message["params"]["name"].as_str().or(message["method"].as_str()).unwrap_or(&asked.method);
            told.lock()
                .push([what, session.as_deref().unwrap_or("-"), after.as_deref().unwrap_or("-")].join(" "));
            let result = |text: &str| {
                let result = json!({"content": [{"type": "text", "text": text}]});
                json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()
            };
            let json = |more: &str, body: &str| {
                plain("200 OK", &format!("content-type: application/json\r\n{more}"), body.as_bytes())
            };
            let events = |text: &str| plain("200 OK", "content-type: text/event-stream\r\n", text.as_bytes());
            let none = |status: &str| plain(status, "", b"");
            let bytes = match (what, session.as_deref(), after.as_deref()) {
                ("initialize", ..) => {
                    let number = told.lock().iter().filter(|line| line.starts_with("initialize")).count();
                    let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                        "serverInfo": {"name": "forgetful", "version": "1"}});
                    let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
                    json(&format!("mcp-session-id: s{number}\r\n"), &body)
                }
                ("notifications/initialized", ..) => none("202 Accepted"),
                // It ends before the answer, as a proxy would end it that gives streams a time.
                ("broken", ..) => {
                    told.lock().push(format!("id {}", message["id"]));
                    events("id: e1\nretry: 1\ndata:\n\n")
                }
                ("GET", _, Some("e1")) => {
                    let asked =
                        told.lock().iter().rev().find_map(|line| line.strip_prefix("id ").map(String::from));
                    let result = json!({"content": [{"type": "text", "text": "after all"}]});
                    let id: Value = serde_json::from_str(&asked.unwrap_or_default()).unwrap_or_default();
                    let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
                    events(&format!("id: e2\ndata: {body}\n\n"))
                }
                ("GET", ..) => none("405 Method Not Allowed"),
                ("forgotten", Some("s1"), _) => none("404 Not Found"),
                ("forgotten", ..) => json("", &result("in a new session")),
                ("DELETE", ..) => none("204 No Content"),
                _ => none("400 Bad Request"),
            };
            stream.write_all(&bytes).await.ok();
        })
    });
    Origin::start(answer).await
}

#[tokio::test]
async fn a_stream_that_broke_off_is_resumed_a_session_that_is_forgotten_is_begun_anew_and_ended_at_last() {
    let told = Arc::default();
    let origin = forgetful(Arc::clone(&told)).await;
    let server = Server::start().await;
    let way = EnvironmentHttp::new(environment(&server).await.http, []);
    let client = client_at(&origin.url("/mcp"), Revision::Old, &way).await;
    assert_eq!(text(&client.call("broken", json!({})).await), "after all");
    assert_eq!(text(&client.call("forgotten", json!({})).await), "in a new session");
    client.service.cancel().await.unwrap();
    let told = told.lock();
    for line in ["broken s1 -", "GET s1 e1", "forgotten s1 -", "forgotten s2 -", "DELETE s2 -"] {
        assert_eq!(told.iter().filter(|told| *told == line).count(), 1, "{line}: {told:?}");
    }
}
