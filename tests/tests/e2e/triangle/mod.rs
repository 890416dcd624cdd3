//! The whole triangle, all of the built binary: our rendezvous, our executor, our harness.

#[path = "../../../../rendezvous/tests/rendezvous/broker.rs"]
mod broker;
mod commands;
mod conformance;
mod cuts;
mod library;
mod mcp;
mod nodes;
mod operator;
mod proxied;
mod shared_tokens;

use codex_e2e::{Executor, ExecutorBuilder, Hub};
use codex_exec_server::client::{
    Client, ClientOptions, Endpoint, ProcessEvent, RegistryEnvironment, RemoteProcess,
};
use codex_exec_server::protocol::process::{StartParams, Stream};
use serde_json::{Value, json};

/// A rendezvous, and an executor started by the line it prints.
struct Triangle {
    hub: Hub,
    executor: Executor,
}

impl Triangle {
    async fn start() -> Self {
        let mut hub = Hub::start(&[]).await;
        let line = hub.line("--remote").await;
        let mut executor = ExecutorBuilder::of_line(&line, None).start();
        executor.tells("attached").await;
        Self { hub, executor }
    }

    /// The token in the printed lines.
    async fn token(&mut self) -> String {
        variable(&self.hub.line("run --registry").await, "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN")
    }

    async fn client(&mut self) -> Client {
        let token = self.token().await;
        client(&self.hub.url, &token).await
    }
}

/// A variable of a printed line.
fn variable(line: &str, name: &str) -> String {
    let (variables, _) = codex_e2e::hub::words(line);
    variables.into_iter().find(|(known, _)| known == name).map(|(_, value)| value).expect("it is in the line")
}

fn environment(registry: &str, token: &str) -> Endpoint {
    Endpoint::Registry(RegistryEnvironment {
        url: registry.to_owned(),
        environment_id: "my-machine".to_owned(),
        token: token.into(),
        account_id: None,
    })
}

async fn client(registry: &str, token: &str) -> Client {
    Client::connect(environment(registry, token), ClientOptions::default()).await.expect("a session")
}

/// A shell script as a program to start; `more` changes its params.
fn script(id: &str, text: &str, more: Value) -> StartParams {
    let mut params = json!({
        "processId": id, "argv": ["/bin/sh", "-c", text], "cwd": "/", "env": {"PATH": std::env::var("PATH").unwrap()},
        "tty": false,
    });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(params).unwrap()
}

/// What a program printed on stdout or its terminal, what on stderr, and its exit code.
async fn all_of(process: &mut RemoteProcess) -> (Vec<u8>, Vec<u8>, i32) {
    let (mut out, mut err, mut exit) = (Vec::new(), Vec::new(), None);
    loop {
        match codex_e2e::client::guarded("an event", process.next()).await {
            Some(ProcessEvent::Output { stream: Stream::Stderr, bytes }) => err.extend(bytes),
            Some(ProcessEvent::Output { bytes, .. }) => out.extend(bytes),
            Some(ProcessEvent::Exited { code, .. }) => exit = Some(code),
            Some(ProcessEvent::Closed) => return (out, err, exit.expect("exited before closed")),
            other => panic!("{other:?}"),
        }
    }
}
