//! Three nodes and two brokers, all real processes, while programs print numbered lines: whichever of them ends, a harness
//! that resumes sees each line once, in order (`docs/scale.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_e2e::client::guarded;
use codex_e2e::machine::eventually;
use codex_e2e::{Balancer, Executor, ExecutorBuilder, Hub, Server};
use codex_exec_server::client::{Client, ClientOptions, Endpoint, RegistryEnvironment};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::broker::Broker;
use super::cuts::{check, printer};

const ENVIRONMENTS: usize = 4;

struct Cluster {
    brokers: Vec<Broker>,
    nodes: Vec<Hub>,
    balancer: Balancer,
    arguments: Vec<String>,
    executor_token: String,
    harness_token: String,
    _directory: TempDir,
}

async fn token(role: &str) -> (String, String) {
    let arguments = ["rendezvous", "token", "--role", role, "--environment", "*"];
    let made = Server::builder().without_listen().args(arguments).refused().await;
    let mut lines = made.stdout.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (executor_token, executor_line) = token("executor").await;
        let (harness_token, harness_line) = token("harness").await;
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("tokens"), format!("{executor_line}\n{harness_line}\n")).unwrap();
        let secret = "not-so-secret-in-a-test-but-long-enough";
        codex_e2e::secrets::remember(secret);
        std::fs::write(path("secret"), secret).unwrap();
        let first = Broker::start().await;
        let second = Broker::beside(&first).await;
        let brokers = format!("{},{}", first.url(), second.url());
        let (tokens, secret) = (path("tokens"), path("secret"));
        let arguments = [
            "--tokens",
            &tokens,
            "--cluster",
            &brokers,
            "--cluster-secret-file",
            &secret,
            "--limit",
            "drain_time=500",
        ];
        let mut this = Self {
            brokers: vec![first, second],
            nodes: Vec::new(),
            balancer: Balancer::start().await,
            arguments: arguments.map(str::to_owned).into(),
            executor_token,
            harness_token,
            _directory: directory,
        };
        for _ in 0..3 {
            this.add_node().await;
        }
        this
    }

    async fn add_node(&mut self) {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let mut node = Hub::start(&arguments).await;
        // Others have to be heard, or at the end nobody would be there to take over.
        if !self.nodes.is_empty() {
            node.line("a node is heard for the first time").await;
        }
        self.balancer.add(node.address());
        self.nodes.push(node);
    }

    async fn end_node(&mut self, at: usize, signal: Signal) {
        let mut node = self.nodes.remove(at);
        let address = node.address();
        node.end(signal).await;
        self.balancer.remove(address);
    }

    async fn executor(&self, id: &str) -> Executor {
        let mut executor = ExecutorBuilder::new(&self.balancer.url())
            .args(["--environment-id", id])
            .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", &self.executor_token)
            .start();
        executor.tells("attached").await;
        executor
    }

    async fn client(&self, id: &str) -> Client {
        let endpoint = Endpoint::Registry(RegistryEnvironment {
            url: self.balancer.url(),
            environment_id: id.to_owned(),
            token: self.harness_token.as_str().into(),
            account_id: None,
        });
        Client::connect(endpoint, ClientOptions::default()).await.expect("a session")
    }
}

#[tokio::test]
async fn whichever_node_or_broker_ends_no_line_is_lost_doubled_or_reordered() {
    let mut cluster = Cluster::start().await;
    let (mut executors, mut clients, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let mut checks = JoinSet::new();
    let stop = cluster._directory.path().join("stop");
    for at in 0..ENVIRONMENTS {
        let id = format!("machine-{at}");
        executors.push(cluster.executor(&id).await);
        let client = cluster.client(&id).await;
        let process = client.start(printer(&id, &stop, 7, "0.02")).await.unwrap();
        let count = Arc::<AtomicU64>::default();
        checks.spawn(check(process, Arc::clone(&count)));
        clients.push(client);
        seen.push(count);
    }
    for accident in
        ["nothing", "node killed", "node added", "broker killed", "node ended", "node added", "node ended"]
    {
        match accident {
            "node killed" => cluster.end_node(0, Signal::KILL).await,
            "node ended" => cluster.end_node(0, Signal::TERM).await,
            "node added" => cluster.add_node().await,
            "broker killed" => cluster.brokers[0].kill(),
            _ => {}
        }
        let before: Vec<_> = seen.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let moved = eventually("all streams go on", || {
            seen.iter().zip(&before).all(|(count, before)| count.load(Ordering::Relaxed) > before + 10)
        });
        tokio::select! {
            () = moved => {}
            Some(ended) = checks.join_next() => panic!("{accident}: {ended:?}"),
        }
    }
    std::fs::write(&stop, "").unwrap();
    while let Some(lines) = guarded("the programs' ends", checks.join_next()).await {
        assert!(lines.expect("no line is lost, doubled or reordered") > 0);
    }
    for client in clients {
        client.close().await;
    }
    for executor in executors {
        assert_eq!(executor.stop().await.code, Some(0));
    }
}
