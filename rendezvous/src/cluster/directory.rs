//! What a node asks others and tells them, and the directory of a node that is alone.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use codex_exec_protocol::registry::PublicKey;
use codex_outgoing::Outgoing;
use codex_secret::Secret;
use serde::{Deserialize, Serialize};
use url::Url;

use super::secret::ClusterSecrets;
use crate::metrics::Levels;
use crate::node_id::NodeId;
use crate::registry::{NoOffer, Offer, Presented};
use crate::switch::Load;
use crate::tokens::Grant;

/// How a node joins others.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Addresses of the NATS servers; not empty.
    pub brokers: Vec<Url>,
    /// Where agents reach this node, and no other; without it, the address that it listens on.
    pub node_url: Option<Url>,
    /// What the nodes share.
    pub secrets: ClusterSecrets,
    /// Take the tokens that the broker keeps for all nodes, besides those of [`Config::grants`](crate::Config::grants).
    pub shared_tokens: bool,
    /// What the brokers ask for: `USER:PASSWORD`, or a token.
    pub credentials: Option<Secret>,
    /// Whom TLS to the brokers trusts.
    pub outgoing: Outgoing,
}

/// The way to an environment at another node.
#[derive(Debug)]
pub struct Elsewhere {
    /// What the owner offers.
    pub offer: Offer,
    /// The owner.
    pub node: NodeId,
    /// Where agents reach it.
    pub url: Url,
}

/// Whether the nodes can talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// There is nobody to talk to, by design.
    Alone,
    /// The broker answers.
    Connected,
    /// The broker can't be reached: this node serves what it has.
    Degraded,
}

/// A node, for who looks after them all.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// New with each start.
    pub node: NodeId,
    /// Where agents reach it.
    pub url: String,
    /// On its way out.
    pub leaving: bool,
    /// Since it was last heard of; zero for this one.
    pub silent: Duration,
    /// What it carries.
    pub levels: Levels,
}

/// Where an environment is, for who looks after them all.
#[derive(Debug, Clone)]
pub struct Place {
    /// Id of the environment.
    pub environment: String,
    /// The node that has its executor, or had it last.
    pub node: NodeId,
    /// Whether the executor is there.
    pub attached: bool,
}

/// What a node asks others and tells them. Telling never waits.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync {
    /// This node among others; `None` when there are no others by design.
    fn node(&self) -> Option<NodeId>;

    /// The generation of a registration that is made now.
    fn next_generation(&self, environment: &str) -> u64;

    /// Whether no newer registration than this generation is known.
    fn is_newest(&self, environment: &str, generation: u64) -> bool;

    /// A registration was made here; older ones end everywhere.
    fn registered(&self, environment: &str, registration: &str, generation: u64);

    /// The executor's socket is here now.
    fn gained(&self, environment: &str, registration: &str, generation: u64);

    /// The executor's socket is here no more.
    fn lost(&self, environment: &str, registration: &str);

    /// Asks for the way to an environment that is not here.
    async fn offer(&self, environment: &str, harness: &PublicKey) -> Result<Elsewhere, NoOffer>;

    /// Asks the owner whether an authorization is good; it is used up then.
    async fn validate(&self, presented: Presented<'_>) -> bool;

    /// Asks another node who uses these environments of it, one answer for each; `None` if it does not say.
    async fn loads(&self, node: NodeId, environments: &[String]) -> Option<Vec<Load>>;

    /// Another node that takes callers.
    fn another(&self) -> Option<Url>;

    /// Tells that this node takes nobody in any more.
    fn leave(&self);

    /// Whether the nodes can talk.
    fn health(&self) -> Health;

    /// All nodes that are known, this one first; empty for a single one.
    fn nodes(&self) -> Vec<NodeStatus>;

    /// Where environments are, in the order of their ids from `after` on, at most `most`.
    fn places(&self, after: &str, most: usize) -> Vec<Place>;
}

/// What the directory asks of its own node.
pub trait Owner: Send + Sync + 'static {
    /// Lets a harness key shake hands with an executor that is attached here.
    ///
    /// # Errors
    /// When there is no executor with a key here.
    fn offer(&self, environment: &str, harness: &PublicKey) -> Result<Offer, NoOffer>;

    /// Whether an authorization that was made here is good; it is used up then.
    fn validate(&self, presented: Presented<'_>) -> bool;

    /// Who uses these environments here, one answer for each.
    fn loads(&self, environments: &[String]) -> Vec<Load>;

    /// A newer registration or socket than this generation is elsewhere. `registration` is the newer one's: with the
    /// same one only the socket is closed.
    fn superseded(&self, environment: &str, registration: &str, generation: u64);

    /// Other tokens are shared now.
    fn share_tokens(&self, grants: Vec<Grant>);

    /// What this node carries.
    fn levels(&self) -> Levels;
}

/// The directory of a single node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

#[async_trait]
impl Directory for Alone {
    fn node(&self) -> Option<NodeId> {
        None
    }

    fn next_generation(&self, _: &str) -> u64 {
        0
    }

    fn is_newest(&self, _: &str, _: u64) -> bool {
        true
    }

    fn registered(&self, _: &str, _: &str, _: u64) {}

    fn gained(&self, _: &str, _: &str, _: u64) {}

    fn lost(&self, _: &str, _: &str) {}

    async fn offer(&self, _: &str, _: &PublicKey) -> Result<Elsewhere, NoOffer> {
        Err(NoOffer::Unknown)
    }

    async fn validate(&self, _: Presented<'_>) -> bool {
        false
    }

    async fn loads(&self, _: NodeId, _: &[String]) -> Option<Vec<Load>> {
        None
    }

    fn another(&self) -> Option<Url> {
        None
    }

    fn leave(&self) {}

    fn health(&self) -> Health {
        Health::Alone
    }

    fn nodes(&self) -> Vec<NodeStatus> {
        Vec::new()
    }

    fn places(&self, _: &str, _: usize) -> Vec<Place> {
        Vec::new()
    }
}
