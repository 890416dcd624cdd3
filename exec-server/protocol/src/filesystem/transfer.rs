//! What copying files between machines needs beyond `fs/*` of released servers (`docs/extensions.md`, "Copying files").

use serde::{Deserialize, Serialize};

use crate::encode::{Empty, encode_with_serde};
use crate::path::WirePath;
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, methods};

methods! {
    /// All that a copy keeps of a file.
    GetEntry: "fs/getEntry" (GetEntryParams) -> Entry;
    /// The names in a directory, each with all that a copy keeps of it.
    List: "fs/list" (ListParams) -> ListResult;
    /// The SHA-256 of a file, or of its beginning.
    Hash: "fs/hash" (HashParams) -> HashResult;
    /// Makes a symlink, in the place of a file that has its name.
    Link: "fs/link" (LinkParams) -> Empty;
    /// Gives a file its mode, time and size, and then its name.
    Place: "fs/place" (PlaceParams) -> Empty;
}

/// Params of `fs/getEntry`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetEntryParams {
    /// The name to examine.
    pub path: WirePath,
    /// A symlink as last name means what it leads to; default false.
    #[serde(default)]
    pub follow_symlinks: bool,
    /// Tell also where a file has data, if it has holes.
    #[serde(default)]
    pub extents: bool,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// What a name stands for.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink itself.
    Symlink,
    /// A socket, FIFO or device.
    Other,
}

/// A name, and all that a copy keeps of what it stands for.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Where it is.
    pub path: WirePath,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permissions, set-user-ID, set-group-ID and sticky bit, as `chmod` takes them.
    pub mode: u32,
    /// Nanoseconds since 1970.
    pub modified_at_ns: i64,
    /// The target of a symlink, whose bytes need not be text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Base64Bytes>,
    /// Where a file with holes has data: offset and length of each piece, in order; absent where it has no holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<Vec<(u64, u64)>>,
}

/// Params of `fs/list`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListParams {
    /// The directory.
    pub path: WirePath,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `fs/list`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResult {
    /// Sorted bytewise by name, without `.` and `..`.
    pub entries: Vec<Entry>,
}

/// Params of `fs/hash`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashParams {
    /// The file.
    pub path: WirePath,
    /// Bytes from its beginning; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `fs/hash`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashResult {
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// Bytes that were hashed: fewer than asked for where the file is shorter.
    pub bytes: u64,
}

/// Params of `fs/link`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkParams {
    /// The symlink to make. A file or symlink that is there is replaced, a directory is not.
    pub path: WirePath,
    /// Where it leads; any bytes but NUL.
    pub target: Base64Bytes,
    /// Nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at_ns: Option<i64>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Params of `fs/place`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceParams {
    /// A regular file, or a directory.
    pub path: WirePath,
    /// Its new name in the same file system, whose file is replaced at once; without one it keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<WirePath>,
    /// The file becomes this long: cut, or with a hole at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What it must hold then, as 64 hexadecimal digits; with another content nothing more is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// As `chmod` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at_ns: Option<i64>,
    /// What the new name must hold now, as 64 hexadecimal digits; if it holds something else, nothing is done. (For editors.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces_sha256: Option<String>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

sandboxed!(GetEntryParams, ListParams, HashParams, LinkParams, PlaceParams,);

encode_with_serde!(Entry, ListResult, HashResult);
