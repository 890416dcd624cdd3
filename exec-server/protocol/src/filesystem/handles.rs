//! Open files, which are read and written in blocks (10.10).

use serde::{Deserialize, Serialize};

use crate::bytes::Block;
use crate::encode::{Empty, encode_with_serde};
use crate::path::WirePath;
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, methods};

methods! {
    /// Opens a handle (10.10).
    Open: "fs/open" (OpenParams) -> OpenResult;
    /// Reads a block of an open file.
    ReadBlock: "fs/readBlock" (ReadBlockParams) -> Block;
    /// Writes a block of an open file.
    WriteBlock: "fs/writeBlock" (WriteBlockParams) -> Empty;
    /// Closes a handle.
    Close: "fs/close" (CloseParams) -> Empty;
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

sandboxed!(OpenParams);
encode_with_serde!(OpenResult);
