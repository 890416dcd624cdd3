//! What is counted, in Prometheus' text format. No label names an environment, a token or a stream.

use std::sync::atomic::AtomicU64;

use codex_observe::figures::openmetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};

use crate::outlet::Closing;
use crate::switch::Dropped;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From harness to executor.
    ToExecutor,
    /// From executor to harness.
    ToHarness,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Gauges that are set when somebody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Environments that are remembered.
    pub environments: usize,
    /// Executors with an open socket.
    pub executors: usize,
    /// Harness sockets that are open.
    pub harnesses: usize,
    /// Streams that are open.
    pub streams: usize,
    /// Bytes waiting in queues.
    pub queued: usize,
}

/// What a node is among others; gauges that are set when somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Nodes that are known, this one included.
    pub nodes: usize,
    /// The broker answers, or none is needed.
    pub connected: bool,
    /// It is on its way out.
    pub leaving: bool,
}

/// What `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    bytes: [Counter; 2],
    frames: [Counter; 2],
    dropped: Family<ReasonLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    closed: Family<ReasonLabel, Counter>,
    environments: Gauge,
    executors: Gauge,
    harnesses: Gauge,
    streams: Gauge,
    queued: Gauge,
    nodes: Gauge,
    connected: Gauge,
    leaving: Gauge,
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("rendezvous");
        let frames = Family::<DirectionLabel, Counter>::default();
        let bytes = Family::<DirectionLabel, Counter<u64, AtomicU64>>::default();
        let [dropped, refused, closed] = [(); 3].map(|()| Family::<ReasonLabel, Counter>::default());
        let [environments, executors, harnesses, streams, queued] = [(); 5].map(|()| Gauge::default());
        registry.register("environments", "Environments remembered", environments.clone());
        registry.register("executors", "Executors attached", executors.clone());
        registry.register("harnesses", "Harness sockets open", harnesses.clone());
        registry.register("streams", "Streams open", streams.clone());
        registry.register_with_unit("queued", "Bytes waiting for slow sockets", Unit::Bytes, queued.clone());
        let [nodes, connected, leaving] = [(); 3].map(|()| Gauge::default());
        registry.register("nodes", "Nodes that this one knows, itself included", nodes.clone());
        registry.register("broker_connected", "1 if the nodes can talk, or there is one", connected.clone());
        registry.register("leaving", "1 while this node sends its executors to others", leaving.clone());
        registry.register("frames", "Frames that came in", frames.clone());
        registry.register_with_unit("relayed", "Bytes of frames that came in", Unit::Bytes, bytes.clone());
        registry.register("dropped_frames", "Frames that led nowhere", dropped.clone());
        registry.register("refusals", "Requests and upgrades refused", refused.clone());
        registry.register("closed_sockets", "Sockets that ended", closed.clone());
        // Looked up once: the hot path takes no lock.
        // In the order of `Direction`.
        let by_direction = |family: &Family<DirectionLabel, Counter>| {
            ["to_executor", "to_harness"]
                .map(|direction| family.get_or_create(&DirectionLabel { direction }).clone())
        };
        let (bytes, frames) = (by_direction(&bytes), by_direction(&frames));
        Self {
            registry,
            bytes,
            frames,
            dropped,
            refused,
            closed,
            environments,
            executors,
            harnesses,
            streams,
            queued,
            nodes,
            connected,
            leaving,
        }
    }

    /// Counts a frame that was passed on.
    pub fn passed(&self, direction: Direction, bytes: usize) {
        self.frames[direction as usize].inc();
        self.bytes[direction as usize].inc_by(bytes as u64);
    }

    /// Counts a frame that led nowhere.
    pub fn dropped(&self, dropped: Dropped) {
        self.dropped.get_or_create(&ReasonLabel { reason: dropped.word() }).inc();
    }

    /// Counts a request that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a socket that ended.
    pub fn closed(&self, closing: Closing) {
        self.closed.get_or_create(&ReasonLabel { reason: closing.word() }).inc();
    }

    /// The counters and levels as OpenMetrics text.
    pub fn encode(&self, levels: Levels, standing: Standing) -> String {
        for (gauge, level) in [
            (&self.environments, levels.environments),
            (&self.executors, levels.executors),
            (&self.harnesses, levels.harnesses),
            (&self.streams, levels.streams),
            (&self.queued, levels.queued),
            (&self.nodes, standing.nodes),
            (&self.connected, standing.connected.into()),
            (&self.leaving, standing.leaving.into()),
        ] {
            gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
        }
        openmetrics(&self.registry)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
