//! A rendezvous of three nodes behind two brokers under faults, while programs print numbered lines: only on request,
//! `--only cluster`.
//!
//! Every few seconds something happens to the nodes or the brokers: a node is killed, ended, added or cut off from the brokers, or
//! a broker is killed. Agents ask for the way all the time meanwhile. Needs root: the brokers have a network namespace.

mod balancer;
mod brokers;
mod caller;
mod stream;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::remote::{Rendezvous, Running, executor_of, key};
use crate::report::{Bar, Row, percentile};
use crate::server::ServerCommand;
use balancer::Balancer;
use brokers::{Brokers, WAYS};
use caller::Callers;
use stream::{Count, Stream};

pub use stream::print_lines;

/// What happens, again and again.
const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Added,
    Fault::Ended,
    Fault::Added,
    Fault::BrokerKilled,
    Fault::CutOff,
    Fault::Added,
];
/// From one fault to the next.
const BETWEEN: Duration = Duration::from_secs(5);
/// How long a broker is away, and a node cut off.
const AWAY: Duration = Duration::from_secs(3);
/// How long things may take to begin.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a stream is started that is refused.
const ATTEMPTS: usize = 5;
/// Nodes at the beginning, and the least that there are when one is taken away.
const NODES: usize = 3;

/// What happens to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Ended,
    Added,
    BrokerKilled,
    CutOff,
}

/// A node and its way to the brokers.
struct Node {
    rendezvous: Rendezvous,
    address: SocketAddr,
    way: usize,
}

/// All that runs.
struct Cluster<'a> {
    server: &'a ServerCommand,
    brokers: Brokers,
    balancer: Balancer,
    nodes: Vec<Node>,
    tokens: String,
    secret: String,
}

impl Cluster<'_> {
    fn add(&mut self) -> Result<()> {
        let free = (0..WAYS).find(|way| self.nodes.iter().all(|node| node.way != *way));
        let way = free.context("more nodes than ways to the brokers")?;
        let urls = Brokers::urls(way);
        let arguments = [
            "--tokens",
            &self.tokens,
            "--cluster",
            &urls,
            "--cluster-secret-file",
            &self.secret,
            "--threads",
            "1",
        ];
        let rendezvous = Rendezvous::start(self.server, &arguments)?;
        let address = rendezvous.address()?;
        self.nodes.push(Node { rendezvous, address, way });
        self.tell_balancer();
        Ok(())
    }

    fn tell_balancer(&self) {
        self.balancer.stand_before(self.nodes.iter().map(|node| node.address).collect());
    }

    /// Makes it happen, and how long streams stood still for it.
    fn suffer(&mut self, fault: Fault, streams: &[Stream], period: Duration) -> Result<Vec<f64>> {
        for stream in streams {
            stream.take_gap();
        }
        let since = Instant::now();
        match fault {
            Fault::Added => self.add()?,
            Fault::Killed => {
                let mut node = self.nodes.remove(0);
                node.rendezvous.running.kill();
                self.tell_balancer();
            }
            Fault::Ended => {
                let mut node = self.nodes.remove(0);
                // The balancer finds out by itself that it is not ready any more.
                node.rendezvous.running.end(PATIENCE)?;
                self.tell_balancer();
            }
            Fault::BrokerKilled => {
                self.brokers.kill(0)?;
                std::thread::sleep(AWAY);
                self.brokers.start_one(0)?;
            }
            Fault::CutOff => {
                let way = self.nodes[0].way;
                self.brokers.set_way(way, false)?;
                std::thread::sleep(AWAY);
                self.brokers.set_way(way, true)?;
            }
        }
        std::thread::sleep(BETWEEN.saturating_sub(since.elapsed()).max(BETWEEN / 2));
        let stalls = streams.iter().map(|stream| stream.take_gap().saturating_sub(period).as_secs_f64());
        Ok(stalls.collect())
    }
}

/// Faults without end; a line that is lost, doubled or out of order is a missed bar.
pub fn run_cluster(context: &Context<'_>) -> Result<Vec<Row>> {
    let (environments, per_environment) = (context.pick(300, 12), context.pick(10, 10));
    let streams = context.pick(1000, 36);
    let period = Duration::from_millis(context.pick(500, 100));
    let rounds = context.pick(12, 1);
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let token = crate::remote::token(context.server, &path("tokens"))?;
    std::fs::write(path("secret"), "not so secret, since it is that of a benchmark")?;
    let mut cluster = Cluster {
        server: context.server,
        brokers: Brokers::start(directory.path().to_owned())?,
        balancer: Balancer::start()?,
        nodes: Vec::new(),
        tokens: path("tokens").display().to_string(),
        secret: path("secret").display().to_string(),
    };
    for _ in 0..NODES {
        cluster.add()?;
    }
    await_that("all nodes are ready", || cluster.balancer.ready() == NODES)?;
    await_that("all nodes know each other", || {
        cluster.nodes.iter().all(|node| known(node.address).is_some_and(|known| known == NODES))
    })?;
    let stop = path("stop");
    let url = cluster.balancer.url();
    let executors = (0..environments).map(|at| executor_of(context.server, &url, &name(at), &token, &[]));
    let executors = executors.collect::<Result<Vec<Running>>>()?;
    // One after the other: a first connection is not tried again, and a thousand at once would be another test.
    let start = |at: usize| {
        for _ in 0..ATTEMPTS {
            let stream =
                Stream::start(context.server, &url, &name(at % environments), &token, &stop, period)?;
            await_that("a stream flows", || stream.lines() > 0 || stream.has_ended())?;
            if stream.lines() > 0 {
                return Ok(stream);
            }
        }
        bail!("stream {at} does not start");
    };
    let started = (0..streams).map(start).collect::<Result<Vec<_>>>()?;
    let callers =
        Callers::start(per_environment.min(environments), cluster.balancer.address, environments, &token);
    let mut stalls: Vec<(Fault, Vec<f64>)> = Vec::new();
    for round in 0..rounds {
        for fault in FAULTS {
            // As many are added as are taken away, and the last one only makes room for the next round.
            if fault == Fault::Added && cluster.nodes.len() > NODES {
                continue;
            }
            let stall = cluster.suffer(fault, &started, period)?;
            eprintln!("cluster: round {round}, {fault:?}: p99 {:.2} s", percentile(&stall, 0.99));
            stalls.push((fault, stall));
        }
    }
    let refused = callers.finish();
    std::fs::write(&stop, "")?;
    let count = started.into_iter().map(Stream::finish).fold(Count::default(), Count::and);
    drop(executors);
    Ok(rows(&stalls, count, refused))
}

fn rows(stalls: &[(Fault, Vec<f64>)], count: Count, refused: caller::Refused) -> Vec<Row> {
    let of = |wanted: &[Fault], share| {
        let all = stalls.iter().filter(|(fault, _)| wanted.contains(fault));
        percentile(&all.flat_map(|(_, stalls)| stalls.clone()).collect::<Vec<_>>(), share)
    };
    let others = [Fault::Added, Fault::BrokerKilled, Fault::CutOff];
    let number = |count: u64| count as f64;
    vec![
        Row::new("cluster: lines", "lines", number(count.lines), Bar::None),
        Row::new("cluster: lines lost", "lines", number(count.lost), Bar::AtMost(0.0)),
        Row::new("cluster: lines doubled", "lines", number(count.doubled), Bar::AtMost(0.0)),
        Row::new("cluster: lines out of order", "lines", number(count.reordered), Bar::AtMost(0.0)),
        Row::new("cluster: streams that broke", "", number(count.broken), Bar::AtMost(0.0)),
        Row::new("cluster: faults", "", stalls.len() as f64, Bar::None),
        Row::new("cluster: stall at a kill, p99", "s", of(&[Fault::Killed], 0.99), Bar::AtMost(3.0)),
        Row::new("cluster: stall at a drain, p99", "s", of(&[Fault::Ended], 0.99), Bar::AtMost(1.0)),
        Row::new("cluster: stall at a drain, longest", "s", of(&[Fault::Ended], 1.0), Bar::None),
        Row::new("cluster: stall at anything else, p99", "s", of(&others, 0.99), Bar::AtMost(1.0)),
        Row::new(
            "cluster: longest refusal of one environment",
            "s",
            refused.longest.as_secs_f64(),
            Bar::AtMost(2.0),
        ),
        Row::new("cluster: questions refused, of all", "%", percent(refused), Bar::None),
    ]
}

fn percent(refused: caller::Refused) -> f64 {
    refused.refused as f64 * 100.0 / refused.asked.max(1) as f64
}

/// How many nodes one of them knows.
fn known(node: SocketAddr) -> Option<usize> {
    let mut stream = TcpStream::connect(node).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix("rendezvous_nodes "))?.trim().parse().ok()
}

/// The environment with this number.
fn name(number: usize) -> String {
    format!("environment-{number}")
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let since = Instant::now();
    while !holds() {
        if since.elapsed() > PATIENCE {
            bail!("never: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
