//! Nodes that take what they share from the configuration and their tokens from the broker (`docs/scale.md`).

use codex_e2e::server::Refused;
use codex_e2e::{ExecutorBuilder, Hub, Server};
use rustix::process::Signal;
use serde_json::Value;

use super::broker::Broker;

/// A home directory whose configuration names the broker and the secret.
fn home(broker: &Broker) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let secret = "not-so-secret-in-a-test-but-long-enough";
    codex_e2e::secrets::remember(secret);
    std::fs::write(home.path().join("secret"), secret).unwrap();
    let text = format!(
        "[exec_server.rendezvous]\ncluster = [{:?}]\ncluster_secret_file = \"secret\"\nshared_tokens = true\n",
        broker.url()
    );
    std::fs::write(home.path().join("config.toml"), text).unwrap();
    home
}

/// Runs `rendezvous token …` with that configuration.
async fn token(home: &tempfile::TempDir, arguments: &[&str]) -> Refused {
    let command = Server::builder().without_listen().args(["rendezvous", "token"]).args(arguments.to_vec());
    let ended = command.env("CODEX_HOME", home.path().to_str().unwrap()).refused().await;
    ended.stdout.lines().filter(|line| line.starts_with("cxr_")).for_each(codex_e2e::secrets::remember);
    ended
}

#[tokio::test]
async fn a_token_is_added_once_for_all_nodes_and_taken_away_from_all() {
    let broker = Broker::that_keeps().await;
    let home = home(&broker);
    let added =
        token(&home, &["add", "--role", "executor", "--environment", "machine", "--name", "the machine"])
            .await;
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let executor_token = added.stdout.trim().to_owned();
    let variables = [("CODEX_HOME", home.path().to_str().unwrap())];
    let mut nodes = [Hub::start_with(&[], &variables).await, Hub::start_with(&[], &variables).await];
    for node in &mut nodes {
        node.line("a node is heard for the first time").await;
    }
    let mut executor = ExecutorBuilder::new(&nodes[1].url)
        .args(["--environment-id", "machine"])
        .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", &executor_token)
        .start();
    executor.tells("attached").await;
    let added = token(&home, &["add", "--role", "observer", "--environment", "*"]).await;
    let observer = added.stdout.trim().to_owned();
    for node in &mut nodes {
        node.line("the shared tokens have changed").await;
        let status = ["rendezvous", "status", "--json", "--url", &node.url];
        let status = Server::builder().without_listen().args(status);
        let status = status.env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", &observer).refused().await;
        let status: Value = serde_json::from_str(&status.stdout).expect(&status.stderr);
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(2), "{status}");
    }
    let listed = token(&home, &["ls"]).await.stdout;
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][1..], ["executor", "machine", "the machine"], "{listed}");
    let hash = lines[0][0].to_owned();
    for (name, code) in [("no such", 1), ("the machine", 0), (hash.as_str(), 1)] {
        let removed = token(&home, &["rm", name]).await;
        assert_eq!(removed.code, Some(code), "{name}: {}", removed.stderr);
    }
    nodes[1].line("reason=\"revoked\"").await;
    let listed: Value = serde_json::from_str(&token(&home, &["ls", "--json"]).await.stdout).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    drop(executor);
    for mut node in nodes {
        node.end(Signal::TERM).await;
    }
}

#[tokio::test]
async fn what_is_missing_for_shared_tokens_is_said() {
    let broker = Broker::start().await;
    let home = home(&broker);
    let empty = tempfile::tempdir().unwrap();
    let refused = token(&home, &["ls"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("nats-server -js"), "{}", refused.stderr);
    for (home, arguments, code, part) in [
        (&empty, &["ls"][..], 2, "--cluster nats://"),
        (&empty, &["ls", "--cluster", "nats://127.0.0.1:1"], 2, "--cluster-secret-file"),
        (&home, &["ls", "--cluster", "nats://127.0.0.1:1"], 1, "broker"),
        (&home, &["add", "--role", "harness"], 2, "--environment"),
        (&home, &["add"], 2, "--role"),
        (&home, &["rm"], 2, "TOKEN"),
        (&home, &["add", "--from", "/no/such"], 1, "/no/such"),
        (&home, &["add", "--from", "x", "--role", "harness"], 2, "--role"),
    ] {
        let refused = token(home, arguments).await;
        assert_eq!(refused.code, Some(code), "{arguments:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(part) && refused.stdout.is_empty(),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    for (arguments, part) in [
        (&["--shared-tokens"][..], "--cluster"),
        (&["--node-url", "http://127.0.0.1:1"], "--cluster"),
        (&["--cluster", "nats://127.0.0.1:1", "--tokens", "x"], "--cluster-secret-file"),
        (&["--cluster", "nats://127.0.0.1:1", "--cluster-secret-file", "x"], "--shared-tokens"),
        (
            &[
                "--cluster",
                "nats://127.0.0.1:1",
                "--cluster-secret-file",
                "x",
                "--tokens",
                "x",
                "--allow-plain",
            ],
            "--allow-plain",
        ),
        (&["--cluster", "nats://user:secret@127.0.0.1:1"], "without a password"),
    ] {
        let command = Server::builder().without_listen().args(["rendezvous"]).args(arguments.to_vec());
        let refused = command.env("CODEX_HOME", empty.path().to_str().unwrap()).refused().await;
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{arguments:?}: {}", refused.stderr);
    }
}
