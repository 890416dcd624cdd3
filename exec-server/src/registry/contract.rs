//! The contracts between executor and registry, and the words that differ between them (`remote.md` section 1).

use std::fmt;
use std::str::FromStr;

/// How an executor registers, and what runs on its websocket afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contract {
    /// A: ChatGPT sign-in, direct JSON-RPC.
    Cloud,
    /// C and C': by executor id, plain relay.
    Executor,
    /// D: by environment id, plain relay.
    Environment,
    /// E: by environment id, encrypted relay.
    Noise,
    /// F: by environment id and signatures of AWS, direct JSON-RPC.
    Direct,
}

impl Contract {
    /// The contract that goes with the ids that were given, when none was asked for.
    pub const fn implied(environment_id: bool, executor_id: bool) -> Self {
        match (environment_id, executor_id) {
            (_, true) => Self::Executor,
            (true, false) => Self::Noise,
            (false, false) => Self::Cloud,
        }
    }

    /// Its name in `--remote-contract`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Executor => "executor",
            Self::Environment => "environment",
            Self::Noise => "noise",
            Self::Direct => "direct",
        }
    }

    /// The subject of request errors (1.2).
    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::Cloud => "cloud environments",
            Self::Executor => "executor registry",
            Self::Environment | Self::Noise | Self::Direct => "environment registry",
        }
    }

    /// The subject of configuration and authentication errors (1.2, 2.2).
    pub(crate) const fn subject(self) -> &'static str {
        match self {
            Self::Cloud => "cloud environment",
            other => other.service(),
        }
    }

    /// What its id names.
    pub(crate) const fn id_noun(self) -> &'static str {
        match self {
            Self::Executor => "executor id",
            _ => "environment id",
        }
    }

    /// Whether the registration is used again after the websocket was lost (5.1, 8.1).
    pub(crate) const fn keeps_registration(self) -> bool {
        matches!(self, Self::Noise | Self::Direct)
    }

    /// Whether the websocket carries JSON-RPC itself, and not streams of a relay.
    pub(crate) const fn is_direct(self) -> bool {
        matches!(self, Self::Cloud | Self::Direct)
    }

    /// Largest websocket message that is taken (4.1, 8).
    pub(crate) const fn message_bytes(self) -> usize {
        match self {
            Self::Noise => 256 << 10,
            _ => 16 << 20,
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown contract {0:?}: use cloud, executor, environment or noise")]
pub struct UnknownContract(String);

impl FromStr for Contract {
    type Err = UnknownContract;

    fn from_str(text: &str) -> Result<Self, UnknownContract> {
        [Self::Cloud, Self::Executor, Self::Environment, Self::Noise]
            .into_iter()
            .find(|contract| contract.name() == text)
            .ok_or_else(|| UnknownContract(text.to_owned()))
    }
}
