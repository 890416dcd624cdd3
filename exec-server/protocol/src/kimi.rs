//! The words of Kimi Code's dialect that are not ours (`docs/extensions.md`, "Kimi Code's dialect").
//!
//! Its other params are read as ours are: they have the same names there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encode::{self, Empty, encode_with_serde};
use crate::filesystem::sandboxed;
use crate::ids::ProcessId;
use crate::path::{LocalPath, WirePath};
use crate::process::{ResizeParams, SignalParams, Stream, TerminateParams, TerminateResult, WriteResult};
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, RequestId, RpcError, dialect_methods, filesystem as fs};

dialect_methods! {
    /// Opens the one session of a connection.
    Initialize: "initialize" (InitializeParams) -> InitializeResult;
    /// Kind, size and times of a name, or of what it leads to.
    GetMetadata: "fs/getMetadata" (fs::GetMetadataParams) -> Metadata;
    /// The real path.
    Canonicalize: "fs/canonicalize" (fs::CanonicalizeParams) -> CanonicalizeResult;
    /// The names in a directory.
    ReadDirectory: "fs/readDirectory" (fs::ReadDirectoryParams) -> ReadDirectoryResult;
    /// Gives a file, directory or symlink another name.
    Rename: "fs/rename" (RenameParams) -> Empty;
    /// Starts a program.
    Start: "process/start" (StartParams) -> StartResult;
    /// Writes to a program, or ends its input.
    Write: "process/write" (WriteParams) -> WriteResult;
    /// Sends a signal to the process group.
    Signal: "process/signal" (SignalParams) -> Empty;
    /// SIGTERM to the process group, and a second later SIGKILL to the tree.
    Terminate: "process/terminate" (TerminateParams) -> TerminateResult;
    /// Changes a terminal's size.
    Resize: "process/resize" (ResizeParams) -> Empty;
}

/// The notification by which a client stops and takes up again the output of one program.
pub const FLOW: &str = "process/flow";

/// Params of `initialize`, by which the dialect is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams {
    /// Who connects.
    pub client_name: String,
    /// Its version: no other dialect has this member.
    pub client_version: String,
}

/// Result of `initialize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// This program's version; clients refuse those below 0.1.0.
    pub executor_version: String,
    /// What this machine is.
    pub environment: Environment,
    /// What this server can do.
    pub capabilities: Capabilities,
}

/// The machine; no member is empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// `Linux` or `macOS`.
    pub os_kind: String,
    /// As Node.js names it: `x64`, `arm64`.
    pub os_arch: String,
    /// The kernel's release.
    pub os_version: String,
    /// `bash` or `sh`.
    pub shell_name: String,
    /// Where that shell is.
    pub shell_path: String,
    /// `posix`.
    pub path_class: String,
    /// The user's home directory.
    pub home_dir: String,
    /// Working directory of the server.
    pub cwd: String,
    /// Directory for temporary files.
    pub temp_dir: String,
}

/// What a server can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// It knows `process/flow`.
    pub process_flow: bool,
}

/// Result of `fs/getMetadata`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// It is a directory.
    pub is_directory: bool,
    /// It is a regular file.
    pub is_file: bool,
    /// It is a symlink; never where symlinks are followed.
    pub is_symlink: bool,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970; 0, since it is not known.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub modified_at_ms: i64,
    /// Kind and permissions, as `stat` has them.
    pub mode: u32,
}

impl From<fs::Entry> for Metadata {
    fn from(entry: fs::Entry) -> Self {
        let kind = match entry.kind {
            fs::Kind::File => 0o100_000,
            fs::Kind::Directory => 0o040_000,
            fs::Kind::Symlink => 0o120_000,
            fs::Kind::Other => 0,
        };
        Self {
            is_directory: entry.kind == fs::Kind::Directory,
            is_file: entry.kind == fs::Kind::File,
            is_symlink: entry.kind == fs::Kind::Symlink,
            size: entry.size,
            created_at_ms: 0,
            modified_at_ms: entry.modified_at_ns.div_euclid(1_000_000),
            mode: kind | entry.mode,
        }
    }
}

/// Result of `fs/canonicalize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanonicalizeResult {
    /// A bare path.
    pub path: String,
}

/// Result of `fs/readDirectory`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadDirectoryResult {
    /// One entry for each name; a symlink is neither file nor directory.
    pub entries: Vec<fs::DirectoryEntry>,
    /// There are more names than these.
    pub truncated: bool,
}

/// Params of `fs/rename`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenameParams {
    /// What gets another name; a symlink itself.
    pub from: WirePath,
    /// The new name, in the same file system; a file that has it is replaced.
    pub to: WirePath,
    /// Not of this dialect: methods on paths have it.
    #[serde(skip)]
    pub sandbox: Option<Sandbox>,
}

sandboxed!(RenameParams);

/// Params of `process/start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartParams {
    /// Chosen by the client.
    pub process_id: ProcessId,
    /// Program and arguments; at least one element.
    pub argv: Vec<String>,
    /// Working directory of the program.
    pub cwd: LocalPath,
    /// Added to the server's own variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// On a terminal instead of pipes.
    #[serde(default)]
    pub tty: bool,
    /// Give the child a pipe as stdin.
    #[serde(default)]
    pub pipe_stdin: bool,
    /// What the program sees as its `argv[0]`.
    #[serde(default)]
    pub arg0: Option<String>,
}

/// Result of `process/start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartResult {
    /// The id that the client chose.
    pub process_id: ProcessId,
    /// The operating system's id.
    pub pid: u32,
}

/// Params of `process/write`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// The process to write to.
    pub process_id: ProcessId,
    /// The bytes to write.
    pub chunk_base64: Base64Bytes,
    /// Makes a retry harmless; not empty.
    pub write_id: String,
    /// Nothing follows; stdin is closed.
    #[serde(default)]
    pub eof: bool,
}

/// Params of `process/flow`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowParams {
    /// The process whose output it is about.
    pub process_id: ProcessId,
    /// Whether the output stops or goes on.
    pub paused: bool,
}

encode_with_serde!(InitializeResult, Metadata, CanonicalizeResult, ReadDirectoryResult, StartResult);

/// Appends the notification of a piece of output.
pub fn encode_output(process_id: &ProcessId, stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\":\"process/output\",\"params\":{\"processId\":");
    encode::json(process_id.as_str(), out);
    out.extend_from_slice(b",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"chunkBase64\":");
    encode::base64_string(bytes, out);
    out.extend_from_slice(b"}}");
}

/// Appends the notification of an exit.
pub fn encode_exited(process_id: &ProcessId, exit_code: i32, out: &mut Vec<u8>) {
    let params = serde_json::json!({"processId": process_id, "exitCode": exit_code});
    encode::json(&serde_json::json!({"method": "process/exited", "params": params}), out);
}

/// Appends the notification that a program is over, and all of its output told.
pub fn encode_closed(process_id: &ProcessId, out: &mut Vec<u8>) {
    let params = serde_json::json!({"processId": process_id});
    encode::json(&serde_json::json!({"method": "process/closed", "params": params}), out);
}

/// Appends an error answer; `domain_code` is the word that this dialect's clients act on.
pub fn encode_failure(id: &RequestId, error: &RpcError, domain_code: Option<&str>, out: &mut Vec<u8>) {
    let mut said = serde_json::json!({"code": error.code, "message": error.message});
    if let Some(word) = domain_code {
        said["data"] = serde_json::json!({"domainCode": word});
    }
    encode::json(&serde_json::json!({"id": id, "error": said}), out);
}
