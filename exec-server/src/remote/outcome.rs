//! How an attempt at a websocket ended, in words without secrets.

/// Why no websocket came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unattached {
    /// In words, without secrets.
    pub(super) reason: String,
    /// The upgrade was refused with a 4xx: the registration is worth nothing any more (8.1).
    pub(super) forgotten: bool,
}

/// How a websocket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// In words, without secrets.
    pub(super) reason: String,
    /// A newer executor has registered with the same id.
    pub(super) superseded: bool,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self { reason, superseded: false }
    }
}
