//! Sequence numbers, as a type of their own, so that none is taken for an offset, a length or a count.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of an event of a process (8.6), or of a piece of a streamed body (11.2): from 1, without gaps.
///
/// In a cursor it is the last number that was seen, so 0 stands for "nothing yet".
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first: a read after it begins at the start.
    pub const NONE: Self = Self(0);
    /// The first one.
    pub const FIRST: Self = Self(1);
    /// The largest one, which nothing ever reaches.
    pub const MAX: Self = Self(u64::MAX);

    /// The number after this one; of the largest, itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number before this one; of [`Self::NONE`], itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
