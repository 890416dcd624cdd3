//! Files (section 10).

use serde::{Deserialize, Serialize};

use crate::encode::{Empty, encode_with_serde};
use crate::path::WirePath;
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, WireEncode, bytes, encode, methods};

methods! {
    /// A whole file (10.1).
    ReadFile: "fs/readFile" (ReadFileParams) -> ReadFileResult;
    /// Creates or replaces a file's content (10.2).
    WriteFile: "fs/writeFile" (WriteFileParams) -> Empty;
    /// Makes a directory (10.3).
    CreateDirectory: "fs/createDirectory" (CreateDirectoryParams) -> Empty;
    /// Kind, size and times (10.4).
    GetMetadata: "fs/getMetadata" (GetMetadataParams) -> Metadata;
    /// The real path (10.5).
    Canonicalize: "fs/canonicalize" (CanonicalizeParams) -> CanonicalizeResult;
    /// The names in a directory (10.6).
    ReadDirectory: "fs/readDirectory" (ReadDirectoryParams) -> ReadDirectoryResult;
    /// Removes a file or a tree (10.8).
    Remove: "fs/remove" (RemoveParams) -> Empty;
    /// Copies a file or a tree (10.9).
    Copy: "fs/copy" (CopyParams) -> Empty;
}
/// Params of `fs/readFile`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadFileParams {
    /// The file to read.
    pub path: WirePath,
    /// False refuses a symlink anywhere in the path; default true.
    #[serde(default)]
    pub follow_symlinks: Option<bool>,
    /// Extension: only a piece of it, which begins at this byte; default 0 where `max_bytes` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Extension: only a piece of it, of so many bytes at most: 1 to 1,048,576, which is the default where `offset` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

impl ReadFileParams {
    /// A whole file, by any path that leads to it, without a sandbox.
    pub fn whole(path: WirePath) -> Self {
        Self { path, follow_symlinks: None, offset: None, max_bytes: None, sandbox: None }
    }
}

/// Result of `fs/readFile`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadFileResult {
    /// The file's content, or the piece that was asked for.
    #[serde(rename = "dataBase64")]
    pub data: Base64Bytes,
    /// Extension: whether the file ends with this piece; only where a piece was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eof: Option<bool>,
}

impl ReadFileResult {
    /// What stands before the content's base64, for whoever writes that in pieces.
    pub const BEFORE: &[u8] = b"{\"dataBase64\":\"";
    /// What stands behind it. White space may go between its two characters.
    pub const BEHIND: [u8; 2] = *b"\"}";
}

impl WireEncode for ReadFileResult {
    fn expected_len(&self) -> usize {
        encode::base64_len(self.data.0.len()) + 64
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(Self::BEFORE);
        bytes::append(&self.data.0, out);
        match self.eof {
            None => out.extend_from_slice(&Self::BEHIND),
            Some(true) => out.extend_from_slice(b"\",\"eof\":true}"),
            Some(false) => out.extend_from_slice(b"\",\"eof\":false}"),
        }
    }
}

/// Params of `fs/writeFile`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteFileParams {
    /// The file to write.
    pub path: WirePath,
    /// Base64 text; kept undecoded since bad base64 is `-32600` here (10.2).
    pub data_base64: String,
    /// Extension: what becomes of a file that is there; default truncate.
    #[serde(default, skip_serializing_if = "WriteMode::is_default")]
    pub mode: WriteMode,
    /// False refuses a symlink anywhere in the path; default true.
    #[serde(default)]
    pub follow_symlinks: Option<bool>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// What becomes of a file that is written to and there already (extension).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// It holds the new content and nothing else.
    #[default]
    Truncate,
    /// The content goes behind what it holds.
    Append,
    /// Nothing is written: the file must be new.
    Exclusive,
}

impl WriteMode {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Params of `fs/createDirectory`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDirectoryParams {
    /// The directory to make.
    pub path: WirePath,
    /// Make parents too; default true.
    #[serde(default)]
    pub recursive: Option<bool>,
    /// False refuses a symlink anywhere in the path; default true.
    #[serde(default)]
    pub follow_symlinks: Option<bool>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Params of `fs/getMetadata`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMetadataParams {
    /// The name to examine.
    pub path: WirePath,
    /// False refuses a symlink anywhere in the path; default true.
    #[serde(default)]
    pub follow_symlinks: Option<bool>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `fs/getMetadata`: kind and size of the target; `is_symlink` is about the name.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The target is a directory.
    pub is_directory: bool,
    /// The target is a regular file.
    pub is_file: bool,
    /// The name itself is a symlink.
    pub is_symlink: bool,
    /// Size of the target in bytes; 0 from servers before 0.144.
    #[serde(default)]
    pub size: u64,
    /// Milliseconds since 1970; 0 when unknown.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub modified_at_ms: i64,
}

/// Params of `fs/canonicalize`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanonicalizeParams {
    /// An existing path.
    pub path: WirePath,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `fs/canonicalize`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanonicalizeResult {
    /// The path with every symlink resolved.
    pub path: WirePath,
}

/// Params of `fs/readDirectory`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadDirectoryParams {
    /// The directory to list.
    pub path: WirePath,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `fs/readDirectory`, unsorted.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadDirectoryResult {
    /// One entry for each name, without `.` and `..`.
    pub entries: Vec<DirectoryEntry>,
}

/// One name in a directory; its kind is the target's.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryEntry {
    /// Shown lossily when it is not UTF-8.
    pub file_name: String,
    /// The target is a directory.
    pub is_directory: bool,
    /// The target is a regular file.
    pub is_file: bool,
}

/// Params of `fs/remove`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveParams {
    /// The name to remove, never through a symlink.
    pub path: WirePath,
    /// Remove a directory with all it holds; default true.
    #[serde(default)]
    pub recursive: Option<bool>,
    /// A missing path is fine; default true.
    #[serde(default)]
    pub force: Option<bool>,
    /// False refuses a symlink anywhere in the path; default true.
    #[serde(default)]
    pub follow_symlinks: Option<bool>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Params of `fs/copy`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyParams {
    /// What to copy.
    pub source_path: WirePath,
    /// Where the copy goes.
    pub destination_path: WirePath,
    /// Needed for a directory.
    pub recursive: bool,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Params that say under which sandbox the operation is to be done.
pub trait Sandboxed: Send + 'static {
    /// What the operation may touch.
    fn sandbox(&self) -> Option<&Sandbox>;

    /// Takes the sandbox out.
    fn take_sandbox(&mut self) -> Option<Sandbox>;
}

/// Implements [`Sandboxed`] for params with a member `sandbox`.
macro_rules! sandboxed {
    ($($params:ty),* $(,)?) => {
        $(impl $crate::filesystem::Sandboxed for $params {
            fn sandbox(&self) -> Option<&$crate::sandbox::Sandbox> {
                self.sandbox.as_ref()
            }

            fn take_sandbox(&mut self) -> Option<$crate::sandbox::Sandbox> {
                self.sandbox.take()
            }
        })*
    };
}
pub(crate) use sandboxed;

sandboxed!(
    ReadFileParams,
    WriteFileParams,
    CreateDirectoryParams,
    GetMetadataParams,
    CanonicalizeParams,
    ReadDirectoryParams,
    RemoveParams,
    CopyParams,
);

encode_with_serde!(Metadata, CanonicalizeResult, ReadDirectoryResult);

pub(crate) mod handles;
pub(crate) mod transfer;
pub(crate) mod walk;
pub(crate) mod watch;

pub use handles::{
    Close, CloseParams, Open, OpenMode, OpenParams, OpenResult, ReadBlock, ReadBlockParams, WriteBlock,
    WriteBlockParams,
};
pub use transfer::{
    Entry, GetEntry, GetEntryParams, Hash, HashParams, HashResult, Kind, Link, LinkParams, List, ListParams,
    ListResult, Place, PlaceParams,
};
pub use walk::{Walk, WalkEntry, WalkError, WalkKind, WalkOptions, WalkParams, WalkResult};
pub use watch::{MissingChanged, MissingChangedParams, WatchMissing, WatchMissingParams, WatchMissingResult};
