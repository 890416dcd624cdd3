//! What `/status` answers: which nodes there are, and where each environment is.

use serde::{Deserialize, Serialize};

use crate::cluster::Health;
use crate::metrics::Levels;
use crate::node_id::NodeId;

/// The path of the request. Its query may hold `after`, the id of the environment that a page begins behind.
pub const PATH: &str = "/status";
/// Environments in one page: with ids of any length the question for them fits into the message that NATS takes by default, 1 MiB.
pub const PAGE: usize = 1_000;

/// One page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Whether the nodes can talk, as the node that answers sees it.
    pub broker: Health,
    /// All nodes that are known; the one that answers is the first.
    pub nodes: Vec<Node>,
    /// Environments in the order of their ids: those that the token is for.
    pub environments: Vec<Environment>,
    /// Where the next page begins; `None` at the last one.
    pub next: Option<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name, new with each start; `None` for a single node.
    pub node: Option<NodeId>,
    /// Where agents reach it. Empty while it has not said so.
    pub url: String,
    /// On its way out.
    pub leaving: bool,
    /// Milliseconds since it was last heard of; 0 for the one that answers.
    pub silent_ms: u64,
    /// What it carries.
    #[serde(flatten)]
    pub levels: Levels,
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its id.
    pub environment: String,
    /// The node that has its executor, or had it last; `None` for a single node.
    pub node: Option<NodeId>,
    /// Whether the executor is there.
    pub attached: bool,
    /// Harness sockets; `None` if the node did not say.
    pub harnesses: Option<usize>,
    /// Streams; `None` if the node did not say.
    pub streams: Option<usize>,
}
