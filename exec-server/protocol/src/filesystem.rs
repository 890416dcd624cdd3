//! Files (section 10).

use serde::{Deserialize, Serialize};

use crate::encode::{Empty, encode_with_serde};
use crate::path::WirePath;
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, WireEncode, bytes, encode, methods, notifications};

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
    /// A tree, breadth first (10.7).
    Walk: "fs/walk" (WalkParams) -> WalkResult;
    /// Removes a file or a tree (10.8).
    Remove: "fs/remove" (RemoveParams) -> Empty;
    /// Copies a file or a tree (10.9).
    Copy: "fs/copy" (CopyParams) -> Empty;
    /// Opens a handle (10.10).
    Open: "fs/open" (OpenParams) -> OpenResult;
    /// Reads a block of an open file.
    ReadBlock: "fs/readBlock" (ReadBlockParams) -> ReadBlockResult;
    /// Writes a block of an open file.
    WriteBlock: "fs/writeBlock" (WriteBlockParams) -> Empty;
    /// Closes a handle.
    Close: "fs/close" (CloseParams) -> Empty;
    /// Watches paths that do not exist (10.11).
    WatchMissing: "fs/watchMissing" (WatchMissingParams) -> WatchMissingResult;
}
notifications! {
    /// A watched path came to be; sent once.
    MissingChanged: "fs/missingChanged" (MissingChangedParams);
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
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `fs/readFile`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadFileResult {
    /// The file's content.
    #[serde(rename = "dataBase64")]
    pub data: Base64Bytes,
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
        out.extend_from_slice(&Self::BEHIND);
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
    /// False refuses a symlink anywhere in the path; default true.
    #[serde(default)]
    pub follow_symlinks: Option<bool>,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
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

/// Params of `fs/open`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenParams {
    /// Chosen by the client, at most 32 bytes.
    pub handle_id: String,
    /// The file to open.
    pub path: WirePath,
    /// For reading or for replacing.
    #[serde(default)]
    pub mode: OpenMode,
    /// What the operation may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// What a handle is for.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenMode {
    /// Read a regular file.
    #[default]
    Read,
    /// Create or truncate, then write.
    Replace,
    /// Write into what is there, or create it for its owner alone; the last name is no symlink (an addition).
    Update,
}

/// Result of `fs/open`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenResult {
    /// The handle's id, as the client chose it.
    pub handle_id: String,
}

/// Params of `fs/readBlock`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadBlockParams {
    /// Id of a handle that is open for reading.
    pub handle_id: String,
    /// Bytes from the start.
    pub offset: u64,
    /// Bytes to read, 1 to 1,048,576.
    pub len: u64,
}

/// Result of `fs/readBlock`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadBlockResult {
    /// The bytes that were read; fewer than `len` at the end of the file.
    pub chunk: Base64Bytes,
    /// Fewer than `len` bytes came back.
    pub eof: bool,
}

impl WireEncode for ReadBlockResult {
    fn expected_len(&self) -> usize {
        encode::base64_len(self.chunk.0.len()) + 64
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode::chunk_and_eof(&self.chunk.0, self.eof, out);
    }
}

/// Params of `fs/writeBlock`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteBlockParams {
    /// Id of a handle that is open for writing.
    pub handle_id: String,
    /// Bytes from the start; a hole is filled with zeros.
    pub offset: u64,
    /// 1 to 1,048,576 bytes.
    pub chunk: Base64Bytes,
}

/// Params of `fs/close`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseParams {
    /// A handle; unknown ones are fine.
    pub handle_id: String,
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
    WalkParams,
    RemoveParams,
    CopyParams,
    OpenParams,
);

encode_with_serde!(
    Metadata,
    CanonicalizeResult,
    ReadDirectoryResult,
    WalkResult,
    OpenResult,
    WatchMissingResult,
);

mod transfer;

pub use transfer::{
    Entry, GetEntry, GetEntryParams, Hash, HashParams, HashResult, Kind, Link, LinkParams, List, ListParams,
    ListResult, Place, PlaceParams,
};
