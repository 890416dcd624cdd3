//! Servers that only an environment reaches, over every way to it.

use codex_e2e::mcp::{McpServer, REVISIONS, Revision, environment, spoken_to_as_a_program};
use codex_e2e::{Server, binary};
use codex_exec_server::client::{Client, ClientOptions, Command, Endpoint, Stderr};
use codex_exec_server::environment::Environment;
use codex_mcp::behind::EnvironmentHttp;
use serde_json::json;

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
