//! What nodes say to each other.

use std::fmt;
use std::time::Duration;

use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;
use serde::{Deserialize, Serialize};

use crate::metrics::Levels;
use crate::node_id::NodeId;
use crate::switch::Load;
use crate::tokens::{Grant, TokenFileError, parse_file};

/// What all subjects begin with. Clusters of different secrets may share a broker: they can't open each other's messages.
pub(super) const SUBJECT: &str = "codex.rendezvous.1";

/// The subject of announcements.
pub(super) fn announcements() -> String {
    format!("{SUBJECT}.news")
}

/// The subject of questions to all.
pub(super) fn everybody() -> String {
    format!("{SUBJECT}.ask")
}

/// What binds an answer to its question.
pub(super) fn answer_context(nonce: &[u8; 16]) -> Vec<u8> {
    [b"answer to ".as_slice(), nonce].concat()
}

/// The shared tokens, as the broker keeps them and as nodes hand them on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    /// Grows with each change; 0 before there was one.
    pub(super) version: u64,
    /// Lines as those of a token file: hashes, no tokens.
    pub(super) lines: String,
}

impl List {
    /// What the lines say.
    pub(super) fn grants(&self) -> Result<Vec<Grant>, TokenFileError> {
        parse_file(&self.lines)
    }
}

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
    /// An operator, who is no node, has changed the shared tokens.
    Tokens { version: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Digest {
    pub(super) tally: Tally,
    pub(super) url: String,
    pub(super) leaving: bool,
    pub(super) levels: Levels,
    /// Version of the shared tokens that it has; 0 if it has none.
    #[serde(default)]
    pub(super) tokens: u64,
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
    /// Who uses these environments of the node.
    Load { environments: Vec<String> },
    /// The shared tokens that it has.
    Tokens,
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
    /// Who uses each of the environments.
    Load(Vec<Load>),
    /// The shared tokens.
    Tokens(List),
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
