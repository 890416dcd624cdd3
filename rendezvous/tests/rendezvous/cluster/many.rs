//! Many environments in the directory: what a node that joins has to catch up with, and all nodes when their broker comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_protocol::registry::PublicKey;
use codex_rendezvous::cluster::{Directory, Nats, Owner};
use codex_rendezvous::metrics::Levels;
use codex_rendezvous::registry::{NoOffer, Offer, Presented};
use codex_rendezvous::switch::Load;
use futures_util::StreamExt;
use tokio::sync::watch;

use super::*;

const REGISTRATION: &str = "7b5d9f2c-0000-4000-8000-000000000000";

/// A node without sockets.
#[derive(Debug)]
struct Nobody;

impl Owner for Nobody {
    fn offer(&self, _: &str, _: &PublicKey) -> Result<Offer, NoOffer> {
        Err(NoOffer::Unknown)
    }

    fn validate(&self, _: Presented<'_>) -> bool {
        false
    }

    fn loads(&self, environments: &[String]) -> Vec<Load> {
        vec![Load::default(); environments.len()]
    }

    fn superseded(&self, _: &str, _: &str, _: u64) {}

    fn share_tokens(&self, _: Vec<Grant>) {}

    fn levels(&self) -> Levels {
        Levels::default()
    }
}

/// Nodes that have no sockets and say that they have executors.
struct Directories {
    broker: Broker,
    owner: Arc<dyn Owner>,
    nodes: Vec<Nats>,
    each: usize,
}

/// What catching up cost.
#[derive(Debug)]
struct Cost {
    time: Duration,
    messages: usize,
    /// In any tenth of a second.
    most_messages: usize,
}

impl Directories {
    async fn start(nodes: usize, each: usize) -> Self {
        let (broker, owner) = (Broker::start().await, Arc::new(Nobody) as _);
        let mut this = Self { broker, owner, nodes: Vec::new(), each };
        for _ in 0..nodes {
            this.join().await;
        }
        this
    }

    async fn join(&mut self) {
        let config = nodes_of(&self.broker.url(), SECRET);
        let retention = Duration::from_secs(3600);
        let node = Nats::join(&config, "http://127.0.0.1:1".parse().unwrap(), retention).await.unwrap();
        let number = self.nodes.len();
        for at in 0..self.each {
            node.gained(&format!("environment-{number}-{at}"), REGISTRATION, 1);
        }
        node.serve(Arc::downgrade(&self.owner));
        self.nodes.push(node);
    }

    /// Whether each node has the first and the last of each tenth of what each has: a glance at few of many.
    fn seem_to_agree(&self) -> bool {
        let tenths = (0..self.each).step_by((self.each / 10).max(1)).chain([self.each - 1]);
        let ids: Vec<_> = tenths
            .flat_map(|at| (0..self.nodes.len()).map(move |number| format!("environment-{number}-{at}")))
            .collect();
        self.nodes.iter().all(|node| ids.iter().all(|id| is_attached(node, id)))
    }

    /// Whether each node knows what all have.
    fn agree(&self) -> bool {
        let expected = self.nodes.len() * self.each;
        let known = |node: &Nats| node.places("", usize::MAX).iter().filter(|place| place.attached).count();
        self.nodes.iter().all(|node| known(node) == expected)
    }

    #[allow(clippy::print_stdout, reason = "who runs the large form wants to see it")]
    async fn agreed(&self, what: &str) -> Cost {
        let spy = async_nats::connect(self.broker.url()).await.unwrap();
        let mut heard = spy.subscribe(">").await.unwrap();
        let (stop, mut stopped) = watch::channel(());
        let counting = tokio::spawn(async move {
            let (began, mut counts) = (Instant::now(), vec![0; 1]);
            loop {
                tokio::select! {
                    Some(_) = heard.next() => {
                        let at = (began.elapsed().as_millis() / 100) as usize;
                        counts.resize(counts.len().max(at + 1), 0);
                        counts[at] += 1;
                    }
                    _ = stopped.changed() => return counts,
                }
            }
        });
        let began = Instant::now();
        eventually("all nodes know what all have", async || self.seem_to_agree() && self.agree()).await;
        let time = began.elapsed();
        drop(stop);
        let counts = counting.await.unwrap();
        let most_messages = counts.iter().copied().max().unwrap_or(0);
        let cost = Cost { time, messages: counts.iter().sum(), most_messages };
        println!("{what}: {cost:?}");
        assert!(cost.messages >= cost.most_messages);
        cost
    }
}

/// Whether a node knows that the executor of an environment is somewhere.
fn is_attached(node: &Nats, id: &str) -> bool {
    // What is right before the id in the order of ids: those end with a digit.
    let (head, last) = id.split_at(id.len() - 1);
    let before = format!("{head}{}~", char::from(last.as_bytes()[0] - 1));
    node.places(&before, 1).first().is_some_and(|place| place.environment == id && place.attached)
}

/// A join, and the broker's return after a tenth of all has moved; what each cost.
async fn simulated(nodes: usize, each: usize) -> [Cost; 2] {
    let mut all = Directories::start(nodes, each).await;
    all.agreed("the beginning").await;
    all.join().await;
    let joined = all.agreed("a node joins").await;
    all.broker.kill();
    for pair in all.nodes.windows(2) {
        eventually("the broker is missed", async || {
            pair.iter().all(|node| node.health() == codex_rendezvous::cluster::Health::Degraded)
        })
        .await;
    }
    for (number, node) in all.nodes.iter().enumerate() {
        for at in 0..each / 10 {
            let id = format!("environment-{number}-{at}");
            node.lost(&id, REGISTRATION);
            all.nodes[(number + 1) % all.nodes.len()].gained(&id, REGISTRATION, 1);
        }
    }
    all.broker = all.broker.again().await;
    let moved_on = all.agreed("the broker is back").await;
    [joined, moved_on]
}

#[tokio::test]
async fn all_nodes_catch_up_when_one_joins_and_when_the_broker_is_back() {
    simulated(5, 200).await;
}

/// `cargo test --release -p codex-rendezvous --test rendezvous -- --ignored --nocapture hundred_thousand`
#[tokio::test]
#[ignore = "its bounds are for a machine that has nothing else to do"]
async fn a_hundred_thousand_environments_are_caught_up_with_in_two_seconds() {
    for cost in simulated(4, 25_000).await {
        assert!(cost.time <= Duration::from_secs(2), "{cost:?}");
    }
}
