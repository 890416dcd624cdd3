//! Trees, listed at once (10.7).

use serde::{Deserialize, Serialize};

use crate::encode::encode_with_serde;
use crate::methods;
use crate::path::WirePath;
use crate::sandbox::Sandbox;

methods! {
    /// A tree, breadth first (10.7).
    Walk: "fs/walk" (WalkParams) -> WalkResult;
}

/// Params of `fs/walk`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalkParams {
    /// The root, itself not listed.
    pub path: WirePath,
    /// How far to go.
    pub options: WalkOptions,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// How far a walk goes.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalkOptions {
    /// 0 lists the root's children.
    pub max_depth: u64,
    /// Directories entered, at most.
    pub max_directories: u64,
    /// Entries listed, at most.
    pub max_entries: u64,
    /// Enter directories through symlinks, each once.
    pub follow_directory_symlinks: bool,
    /// List, but do not enter, directories whose name starts with a dot.
    #[serde(default)]
    pub prune_hidden_directories: bool,
}

/// Result of `fs/walk`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WalkResult {
    /// Breadth first, sorted bytewise within a directory.
    pub entries: Vec<WalkEntry>,
    /// What could not be examined.
    pub errors: Vec<WalkError>,
    /// A bound was hit.
    pub truncated: bool,
}

/// A file or directory that a walk found.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkEntry {
    /// Where the entry is.
    pub path: WirePath,
    /// Whether it is a file or a directory.
    pub kind: WalkKind,
}

/// What a walk lists.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalkKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// Something that a walk could not examine.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkError {
    /// The path that could not be examined.
    pub path: WirePath,
    /// The reason, for people.
    pub message: String,
}

sandboxed!(WalkParams);
encode_with_serde!(WalkResult);
