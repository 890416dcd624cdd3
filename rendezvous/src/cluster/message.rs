//! What nodes say to each other.

use std::fmt;
use std::time::Duration;

use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;
use serde::{Deserialize, Serialize};

use crate::metrics::Levels;
use crate::node_id::NodeId;

/// Which of two claims is newer: the later registration, then the later socket, then any fixed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Of the registration.
    pub generation: u64,
    /// Of the socket; 0 before there is one.
    pub attachment: u64,
    /// Who claims it.
    pub node: NodeId,
}

/// That a node made a registration, or has its executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Id of the environment.
    pub environment: String,
    /// Id of the registration.
    pub registration: String,
    /// Of the registration.
    pub generation: u64,
    /// Of the socket; 0 before there is one.
    pub attachment: u64,
}

impl Claim {
    /// Its place in the order of claims.
    pub fn version(&self, node: NodeId) -> Version {
        Version { generation: self.generation, attachment: self.attachment, node }
    }
}

/// A sum over the environments of a node: how many, and a number that changes with each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) sum: u64,
}

/// What a node tells all others.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Announcement {
    /// Time since 1970 in milliseconds.
    pub(super) at: u64,
    pub(super) news: News,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// Older registrations of the environment end.
    Registered(Claim),
    /// The node has the executor.
    Gained(Claim),
    /// The node has the executor no more.
    Lost(Claim),
    /// It lives.
    Digest(Digest),
    /// It ends now.
    Gone,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Digest {
    pub(super) tally: Tally,
    pub(super) url: String,
    pub(super) leaving: bool,
    pub(super) levels: Levels,
}

/// What one node asks another, or all.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// Binds the answer to this question.
    pub(super) nonce: [u8; 16],
    /// Time since 1970 in milliseconds.
    pub(super) at: u64,
    pub(super) about: About,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum About {
    /// The way to an environment.
    Offer { environment: String, harness: PublicKey },
    /// Whether an authorization is good.
    Validate { environment: String, registration: String, harness: PublicKey, authorization: Sealed },
    /// The node's environments, in the order of their ids, after this one.
    List { after: String },
}

/// An authorization on its way to its owner. It is sealed, and never shown.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sealed(pub(super) String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The way: it is here.
    Offer { registration: String, key: PublicKey, authorization: Sealed, url: String },
    /// Known, but its executor is not here.
    Away,
    /// Here, without a key.
    Plain,
    /// Never heard of.
    Unknown,
    /// Whether the authorization was good.
    Valid(bool),
    /// Some environments; more follow after the last.
    List { claims: Vec<Claim>, more: bool },
}

impl Answer {
    /// The secret of an authorization, out of the message.
    pub(super) fn secret(text: Sealed) -> Secret {
        Secret::new(text.0)
    }
}

/// Time as messages have it.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
