//! Several nodes and a real broker (`docs/scale.md`).

use codex_outgoing::{Outgoing, Proxies};
use codex_rendezvous::Config;
use codex_rendezvous::cluster::{ClusterConfig, ClusterSecrets};
use codex_rendezvous::tokens::{Grant, Role};
use serde_json::{Value, json};
use url::Url;

use crate::broker::Broker;
use crate::support::{Executor, Server, Socket, data, eventually, mint, pair, patiently, text};

const SECRET: &str = "the-secret-that-the-nodes-of-these-tests-share";

/// Nodes that know each other, behind one broker.
struct Cluster {
    broker: Broker,
    nodes: Vec<Server>,
    token: String,
    grant: Grant,
}

fn joined(config: &mut Config, broker: &str, secret: &str) {
    config.cluster = Some(nodes_of(broker, secret));
}

fn nodes_of(broker: &str, secret: &str) -> ClusterConfig {
    ClusterConfig {
        brokers: vec![broker.parse().unwrap()],
        node_url: None,
        secrets: ClusterSecrets::parse(secret).unwrap(),
        shared_tokens: false,
        credentials: None,
        outgoing: Outgoing::new(None, Proxies::default()),
    }
}

impl Cluster {
    async fn start(count: usize) -> Self {
        Self::behind(Broker::start().await, count).await
    }

    async fn behind(broker: Broker, count: usize) -> Self {
        let (token, grant) = mint(&[Role::Executor, Role::Harness, Role::Observer], "*");
        let mut this = Self { broker, nodes: Vec::new(), token, grant };
        for _ in 0..count {
            let node = this.node(|_| ()).await;
            this.nodes.push(node);
        }
        this.meet().await;
        this
    }

    async fn node(&self, change: impl FnOnce(&mut Config)) -> Server {
        self.stranger(SECRET, change).await
    }

    /// A node with a secret of its own.
    async fn stranger(&self, secret: &str, change: impl FnOnce(&mut Config)) -> Server {
        let url = self.broker.url();
        Server::start_as(self.token.clone(), self.grant.clone(), |config| {
            joined(config, &url, secret);
            change(config);
        })
        .await
    }

    /// Waits until each node has heard all others.
    async fn meet(&self) {
        for node in &self.nodes {
            eventually("the nodes meet", async || {
                node.rendezvous.nodes().iter().filter(|other| !other.url.is_empty()).count()
                    == self.nodes.len()
            })
            .await;
        }
    }
}

/// The same path and query at another node.
fn at(node: &Server, url: &str) -> String {
    let mut url: Url = url.parse().unwrap();
    url.set_port(Some(node.rendezvous.address().port())).unwrap();
    url.into()
}

fn leads_to(url: &Value, node: &Server) -> bool {
    text(url).starts_with(&format!("ws://{}/", node.rendezvous.address()))
}

/// Registers at one node and attaches to another.
async fn executor(registrar: &Server, owner: &Server, id: &str) -> Executor {
    let answer = registrar.register(id).await;
    let url = at(owner, &text(&answer["url"]));
    let socket = Socket::open(&url).await.unwrap();
    Executor { socket, url, registration: text(&answer["executor_registration_id"]) }
}

/// Asks a node for the way until there is one.
async fn found(node: &Server, id: &str) -> Value {
    let mut found = Value::Null;
    eventually("the environment is found", async || {
        let (status, answer) = node.connect(id, 9).await;
        found = answer;
        status == 200
    })
    .await;
    found
}

#[tokio::test]
async fn an_environment_is_reached_by_way_of_any_node() {
    let cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { unreachable!() };
    let mut executor = executor(a, b, "env").await;
    for asked in [a, b, c] {
        let answer = found(asked, "env").await;
        assert!(leads_to(&answer["url"], b), "{answer}");
        assert_eq!(text(&answer["executor_registration_id"]), executor.registration);
        let mut harness = Socket::open(text(&answer["url"])).await.unwrap();
        let stream = text(&answer["url"]).len().to_string() + &asked.rendezvous.address().to_string();
        harness.send(data(&stream, "there")).await;
        assert_eq!(executor.socket.said().await, pair(&stream, "there"));
        executor.socket.send(data(&stream, "and back")).await;
        assert_eq!(harness.said().await, pair(&stream, "and back"));
        harness.close().await;
        assert_eq!(executor.socket.said().await, pair(&stream, "reset"));
        // Any node can be asked whether the harness may shake hands, and only once.
        let authorization = text(&answer["harness_key_authorization"]);
        for (node, key, valid) in [(c, 8, false), (a, 9, true), (b, 9, false), (c, 9, false)] {
            let answer = node.validate("env", &executor.registration, key, &authorization).await;
            assert_eq!(answer, (200, json!({"valid": valid})));
        }
    }
}

#[tokio::test]
async fn a_node_that_has_just_started_asks_those_it_has_not_heard_yet() {
    let cluster = Cluster::start(1).await;
    let owner = &cluster.nodes[0];
    eventually("the owner can be asked", async || owner.get("/readyz").await.1 == "ready\n").await;
    let executor = executor(owner, owner, "env").await;
    for _ in 0..5 {
        let authorization = text(&found(owner, "env").await["harness_key_authorization"]);
        let starting = cluster.node(|_| ()).await;
        let answer = starting.validate("env", &executor.registration, 9, &authorization).await;
        assert_eq!(answer, (200, json!({"valid": true})));
    }
}

#[tokio::test]
async fn the_newest_registration_wins_at_all_nodes() {
    let cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { unreachable!() };
    let mut first = executor(a, a, "env").await;
    let mut harness = Socket::open(text(&found(c, "env").await["url"])).await.unwrap();
    let second = b.register("env").await;
    let (code, reason) = first.socket.closed().await;
    assert_eq!((code, reason.as_str()), (1012, codex_exec_protocol::registry::SUPERSEDED));
    assert_eq!(harness.closed().await.0, 1012);
    for node in [a, b, c] {
        eventually("the old ticket is refused", async || {
            let refused = Socket::open(at(node, &first.url)).await;
            refused.is_err_and(|refused| refused.0 == 404 && refused.1 == "unknown_route")
        })
        .await;
    }
    let _second = Socket::open(at(c, &text(&second["url"]))).await.unwrap();
    let answer = found(a, "env").await;
    assert!(leads_to(&answer["url"], c));
    assert_eq!(answer["executor_registration_id"], second["executor_registration_id"]);
}

#[tokio::test]
async fn the_newer_socket_of_a_registration_wins_at_all_nodes() {
    let cluster = Cluster::start(2).await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let mut executor = executor(a, a, "env").await;
    // Sockets that open within a millisecond, at nodes that have not heard of each other's, have no order that all see.
    assert!(leads_to(&found(b, "env").await["url"], a));
    let _newer = Socket::open(at(b, &executor.url)).await.unwrap();
    assert_eq!(executor.socket.closed().await.0, 1012);
    assert!(leads_to(&found(a, "env").await["url"], b));
    assert!(leads_to(&found(b, "env").await["url"], b));
}

#[tokio::test]
async fn when_a_node_is_gone_its_executors_come_to_others_with_the_address_they_have() {
    let mut cluster = Cluster::start(3).await;
    let killed = cluster.nodes.remove(0);
    let [b, c] = &cluster.nodes[..] else { unreachable!() };
    let executor = executor(&killed, &killed, "env").await;
    found(c, "env").await;
    drop(killed);
    eventually("it is away, which agents wait for", async || c.connect("env", 9).await.0 == 503).await;
    let _back = Socket::open(at(b, &executor.url)).await.unwrap();
    assert!(leads_to(&found(c, "env").await["url"], b));
}

#[tokio::test]
async fn a_node_that_ends_sends_its_executors_away_and_steers_the_others() {
    let mut cluster = Cluster::start(2).await;
    let leaving = cluster.node(|config| config.limits.times.drain_time = crate::support::PATIENCE * 2).await;
    cluster.nodes.push(leaving);
    cluster.meet().await;
    let leaving = cluster.nodes.pop().unwrap();
    let staying = &cluster.nodes[0];
    let mut sockets =
        vec![executor(&leaving, &leaving, "one").await, executor(&leaving, &leaving, "two").await];
    let Server { rendezvous, token, grant, http } = leaving;
    let url = rendezvous.local_url().to_owned();
    let draining = tokio::spawn(rendezvous.drain());
    // One of them is sent away at once, and the other one waits for its turn.
    let gone = {
        let (first, second) = sockets.split_at_mut(1);
        tokio::select! {
            closed = first[0].socket.closed() => { assert_eq!(closed.0, 1012); 0 }
            closed = second[0].socket.closed() => { assert_eq!(closed.0, 1012); 1 }
        }
    };
    let moved = sockets.remove(gone);
    let name = ["one", "two"][gone];
    let ready = http.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let refused = Socket::open(&moved.url).await.unwrap_err();
    assert_eq!((refused.0, refused.1.as_str()), (401, "pod_draining"));
    // Registering anew at the node that ends leads to another one.
    let answer: Value = http
        .post(format!("{url}/cloud/environment/{name}/register"))
        .bearer_auth(&token)
        .json(
            &json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": crate::support::key(1)}),
        )
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(cluster.nodes.iter().any(|node| leads_to(&answer["url"], node)), "{answer}");
    let _back = Socket::open(text(&answer["url"])).await.unwrap();
    found(staying, name).await;
    // Agents of the one that still waits are let in.
    let still = ["one", "two"][1 - gone];
    let harness = Socket::open(text(&found(staying, still).await["url"])).await.unwrap();
    harness.close().await;
    sockets.remove(0).socket.close().await;
    patiently(draining).await.unwrap();
    eventually("it is forgotten", async || staying.rendezvous.nodes().len() == 2).await;
    drop(grant);
}

#[tokio::test]
async fn without_its_broker_a_node_serves_what_it_has_and_says_so() {
    let mut cluster = Cluster::start(2).await;
    let mut executor = executor(&cluster.nodes[0], &cluster.nodes[0], "env").await;
    found(&cluster.nodes[1], "env").await;
    assert_eq!(cluster.nodes[0].get("/readyz").await, (200, "ready\n".to_owned()));
    let mut harness = Socket::open(text(&found(&cluster.nodes[0], "env").await["url"])).await.unwrap();
    cluster.broker.kill();
    let a = &cluster.nodes[0];
    eventually("it says degraded", async || {
        let (status, text) = a.get("/readyz").await;
        assert_eq!(status, 200);
        text.starts_with("degraded")
    })
    .await;
    // Streams go on, and what is here is found here.
    harness.send(data("A", "still")).await;
    assert_eq!(executor.socket.said().await, pair("A", "still"));
    assert_eq!(a.connect("env", 9).await.0, 200);
    assert_eq!(cluster.nodes[1].connect("env", 9).await.0, 503, "it may be there: agents have to come back");
    assert_eq!(cluster.nodes[1].connect("nobody", 9).await.0, 503, "nobody can tell");
    // What happens meanwhile is made good when the broker is back.
    let moved = at(&cluster.nodes[1], &executor.url);
    let _newer = Socket::open(&moved).await.unwrap();
    cluster.broker = cluster.broker.again().await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    assert_eq!(executor.socket.closed().await.0, 1012, "two sockets of one registration");
    assert!(leads_to(&found(a, "env").await["url"], b));
    assert_eq!(a.get("/readyz").await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn a_node_that_joins_learns_what_there_is_and_an_unknown_environment_is_unknown_to_all() {
    let mut cluster = Cluster::start(2).await;
    let _executors = [
        executor(&cluster.nodes[0], &cluster.nodes[0], "one").await,
        executor(&cluster.nodes[1], &cluster.nodes[0], "two").await,
    ];
    let joining = cluster.node(|_| ()).await;
    // Asked before it can know: others are asked, or the agent is told to come back.
    let (status, _) = joining.connect("nobody", 9).await;
    assert_eq!(status, 503);
    for id in ["one", "two"] {
        assert!(leads_to(&found(&joining, id).await["url"], &cluster.nodes[0]));
    }
    eventually("nobody knows it", async || joining.connect("nobody", 9).await.0 == 404).await;
    cluster.nodes.push(joining);
    cluster.meet().await;
}

mod hostile;
mod many;
mod status;
mod tokens;
