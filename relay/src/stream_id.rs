//! What a stream is called: on the wire, and here.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of a stream on the wire: any text that is not blank.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// A fresh random UUID, as harnesses choose it.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// The name as it stands in frames.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StreamId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a stream. An id may be used again and then has another key, so what comes late for the former life
/// can't hit the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(pub(crate) u64);
