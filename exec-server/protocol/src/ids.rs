//! The ids of the protocol, each a type of its own, so that none is taken for another or for a bare text.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! text_ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as it goes over the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }
    )*};
}

/// Ids that the other side chooses: any text is one.
macro_rules! any_text {
    ($($name:ident)*) => {$(
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    )*};
}

text_ids! {
    /// Names a process within its session; the client chooses it (8.1).
    ProcessId
    /// Names a session; a random UUID, given by the server (5.1).
    SessionId
}
any_text! { ProcessId SessionId }

/// Names an environment, or an executor, at a registry: 1 to 256 of `A-Z a-z 0-9 - _` (`remote.md` 1.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentId(String);

/// A text that is no [`EnvironmentId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoEnvironmentId;

impl fmt::Display for NoEnvironmentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "it takes 1 to {} of A-Z a-z 0-9 - _", EnvironmentId::LONGEST)
    }
}

impl std::error::Error for NoEnvironmentId {}

impl EnvironmentId {
    /// The longest id, in characters.
    pub const LONGEST: usize = 256;

    /// Whether this text is an id.
    pub fn fits(text: &str) -> bool {
        (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    }

    /// The id as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvironmentId {
    type Err = NoEnvironmentId;

    fn from_str(text: &str) -> Result<Self, NoEnvironmentId> {
        if Self::fits(text) { Ok(Self(text.to_owned())) } else { Err(NoEnvironmentId) }
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
