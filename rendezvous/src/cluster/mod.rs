//! Where environments are when there are several nodes (`docs/scale.md`).
//!
//! [`Directory`] is what a node asks and tells. [`Alone`] is the directory of a single node, which knows no other;
//! [`Nats`] is that of nodes which find each other over a NATS server.

mod connection;
mod directory;
mod message;
mod nats;
mod seal;
mod secret;
mod shared_tokens;
mod table;

pub use connection::BrokerError;
pub use directory::{Alone, ClusterConfig, Directory, Elsewhere, Health, NodeStatus, Owner, Place};
pub use message::{Claim, Version};
pub use nats::Nats;
pub use secret::{ClusterSecrets, SecretsError};
pub use shared_tokens::{SharedTokens, SharedTokensError};
