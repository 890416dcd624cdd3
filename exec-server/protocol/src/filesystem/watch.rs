//! Paths that do not exist, watched until they do (10.11).

use serde::{Deserialize, Serialize};

use crate::encode::encode_with_serde;
use crate::path::WirePath;
use crate::{methods, notifications};

methods! {
    /// Watches paths that do not exist (10.11).
    WatchMissing: "fs/watchMissing" (WatchMissingParams) -> WatchMissingResult;
}
notifications! {
    /// A watched path came to be; sent once.
    MissingChanged: "fs/missingChanged" (MissingChangedParams);
}

/// Params of `fs/watchMissing`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchMissingParams {
    /// Greater than every id used before on the connection.
    pub watch_id: u64,
    /// Paths that do not exist, at most 64. A foreign one makes the answer false (10.11).
    pub missing: Vec<WirePath>,
    /// A path that exists.
    #[serde(default)]
    pub present: Option<WirePath>,
}

/// Result of `fs/watchMissing`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WatchMissingResult {
    /// Whether the watch runs.
    pub watching: bool,
}

/// Params of `fs/missingChanged`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingChangedParams {
    /// The watch that ended.
    pub watch_id: u64,
}

encode_with_serde!(WatchMissingResult);
