//! Running programs (section 8, and `docs/extensions.md` for what is ours).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encode::{Empty, encode_with_serde};
use crate::path::LocalPath;
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, WireEncode, encode, methods, notifications};

methods! {
    /// Starts a program (8.1).
    Start: "process/start" (StartParams) -> StartResult;
    /// Reads retained output, waiting for more (8.3).
    Read: "process/read" (ReadParams) -> ReadResult;
    /// Writes to stdin or the terminal (8.4).
    Write: "process/write" (WriteParams) -> WriteResult;
    /// Sends a signal to the process group (8.5).
    Signal: "process/signal" (SignalParams) -> Empty;
    /// Ends a process and its tree (8.5).
    Terminate: "process/terminate" (TerminateParams) -> TerminateResult;
    /// Lists the session's processes (extension).
    List: "process/list" (ListParams) -> ListResult;
    /// Waits for a process's end (extension).
    Wait: "process/wait" (WaitParams) -> WaitResult;
    /// Changes a terminal's size (extension).
    Resize: "process/resize" (ResizeParams) -> Empty;
    /// Closes a process's stdin after what is queued (extension).
    CloseStdin: "process/closeStdin" (CloseStdinParams) -> Empty;
}
notifications! {
    /// A piece of output (8.6).
    Output: "process/output" (OutputParams);
    /// The child was reaped (8.6).
    Exited: "process/exited" (ExitedParams);
    /// Exited, and all output seen (8.6).
    Closed: "process/closed" (ClosedParams);
}

/// Params of `process/start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartParams {
    /// Chosen by the client; private to the session.
    pub process_id: String,
    /// Program and arguments; at least one element.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: LocalPath,
    /// The child's environment, or what is added to [`EnvPolicy`]'s.
    pub env: BTreeMap<String, String>,
    /// On a terminal instead of pipes.
    pub tty: bool,
    /// What the program sees as its `argv[0]`.
    #[serde(default)]
    pub arg0: Option<String>,
    /// Give the child a pipe as stdin; without it, `/dev/null`.
    #[serde(default)]
    pub pipe_stdin: bool,
    /// Start from the server's environment.
    #[serde(default)]
    pub env_policy: Option<EnvPolicy>,
    /// What the program may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// Only with a sandbox (section 13).
    #[serde(default)]
    pub enforce_managed_network: bool,
    /// Section 13.
    #[serde(default)]
    pub managed_network: Option<ManagedNetwork>,
    /// Section 13.
    #[serde(default)]
    pub network_proxy: Option<Value>,
    /// Section 8.1.
    #[serde(default)]
    pub shell_snapshot: Option<ShellSnapshot>,
    /// Who asks.
    #[serde(default)]
    pub metadata: Option<StartMetadata>,
    /// Extension: the terminal's rows; default 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Extension: the terminal's columns; default 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// Extension: ends the process group after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Extension: ends the process group after this many milliseconds without output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
}

/// How the child's environment is made from the server's (8.2).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvPolicy {
    /// What to start from.
    pub inherit: EnvInherit,
    /// Keep names like `*KEY*`, `*SECRET*`, `*TOKEN*`.
    pub ignore_default_excludes: bool,
    /// Patterns of names to drop.
    pub exclude: Vec<String>,
    /// Variables to add.
    pub set: BTreeMap<String, String>,
    /// Patterns of names to keep; empty keeps all.
    pub include_only: Vec<String>,
}

/// What an environment starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvInherit {
    /// Everything.
    All,
    /// A short list of names.
    Core,
    /// Nothing.
    None,
}

/// Limits of a managed network (8.1).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedNetwork {
    /// Ports on loopback that the program may reach.
    pub loopback_ports: Vec<u16>,
    /// May bind local addresses.
    pub allow_local_binding: bool,
}

/// A remembered shell environment (8.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShellSnapshot {
    /// Who shares it.
    pub scope_id: String,
    /// Which shell.
    pub shell: crate::environment::Shell,
}

/// Who asks for a start (8.1).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartMetadata {
    /// A UUID.
    #[serde(deserialize_with = "uuid_text")]
    pub thread_id: Option<String>,
    /// Any text.
    pub tool_call_id: Option<String>,
}

/// A UUID in any of the usual spellings: 32 hex digits, hyphens, braces or `urn:uuid:` allowed.
fn uuid_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    if let Some(text) = &text {
        let bare = text.strip_prefix("urn:uuid:").unwrap_or(text);
        let bare = bare.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(bare);
        let hyphens = bare.match_indices('-').map(|(at, _)| at);
        let placed = !bare.contains('-') || hyphens.eq([8, 13, 18, 23]);
        let digits = bare.bytes().filter(|b| *b != b'-');
        if !placed || digits.clone().count() != 32 || !digits.clone().all(|b| b.is_ascii_hexdigit()) {
            return Err(serde::de::Error::custom(format!("invalid threadId {text:?}: expected a UUID")));
        }
    }
    Ok(text)
}

/// Result of `process/start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartResult {
    /// As asked.
    pub process_id: String,
    /// `none` or `linuxSeccomp`; absent from servers before 0.169.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_type: Option<String>,
}

/// Params of `process/read`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadParams {
    /// Which process.
    pub process_id: String,
    /// Return what comes after this number; default 0.
    #[serde(default)]
    pub after_seq: Option<u64>,
    /// Bound on decoded bytes; at least one chunk is returned.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// Wait this many milliseconds for something new.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Where output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The pipe of file descriptor 1.
    Stdout,
    /// The pipe of file descriptor 2.
    Stderr,
    /// The terminal.
    Pty,
}

impl Stream {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Pty => "pty",
        }
    }
}

/// One piece of retained output; `B` holds the bytes (the server's are reference-counted).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chunk<B = Base64Bytes> {
    /// Its number.
    pub seq: u64,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes.
    pub chunk: B,
}

/// How a process ended, in full (extension).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitDetails {
    /// The signal that killed it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// It left a core dump.
    #[serde(default)]
    pub core_dumped: bool,
    /// A deadline (`timeoutMs`, `idleTimeoutMs`) ended it.
    #[serde(default)]
    pub timed_out: bool,
    /// User CPU time of the child and its waited-for children, in milliseconds.
    #[serde(default)]
    pub cpu_user_ms: u64,
    /// System CPU time, likewise.
    #[serde(default)]
    pub cpu_system_ms: u64,
    /// Largest resident set of one process of the tree, in bytes.
    #[serde(default)]
    pub max_rss_bytes: u64,
    /// From start to reaping, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

/// How much came from each stream since the start (extension).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTotals {
    /// Bytes read from stdout.
    #[serde(default)]
    pub stdout: u64,
    /// Bytes read from stderr.
    #[serde(default)]
    pub stderr: u64,
    /// Bytes read from the terminal.
    #[serde(default)]
    pub pty: u64,
}

impl StreamTotals {
    /// Counts bytes of one stream.
    pub fn add(&mut self, stream: Stream, bytes: u64) {
        match stream {
            Stream::Stdout => self.stdout += bytes,
            Stream::Stderr => self.stderr += bytes,
            Stream::Pty => self.pty += bytes,
        }
    }
}

/// Result of `process/read`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadResult<B = Base64Bytes> {
    /// Retained output after `afterSeq`, in order.
    pub chunks: Vec<Chunk<B>>,
    /// Section 8.3.
    pub next_seq: u64,
    /// The child was reaped.
    pub exited: bool,
    /// Null until `exited`.
    pub exit_code: Option<i32>,
    /// Exited, and all output seen.
    pub closed: bool,
    /// Always null from this server.
    #[serde(default)]
    pub failure: Option<String>,
    /// The sandbox was in the way; absent from old servers.
    #[serde(default)]
    pub sandbox_denied: bool,
    /// Extension: bytes after `afterSeq` and before the first chunk that are gone.
    #[serde(default)]
    pub lost_bytes: u64,
    /// Extension: each stream's total since the start.
    #[serde(default)]
    pub totals: StreamTotals,
    /// Extension: how it ended; null until `exited`.
    #[serde(default)]
    pub exit: Option<ExitDetails>,
}

impl<B: AsRef<[u8]>> WireEncode for ReadResult<B> {
    fn expected_len(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| encode::base64_len(chunk.chunk.as_ref().len()) + 64);
        chunks.sum::<usize>() + 512
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"chunks\":[");
        for (index, chunk) in self.chunks.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"seq\":");
            encode::number(chunk.seq, out);
            out.extend_from_slice(b",\"stream\":\"");
            out.extend_from_slice(chunk.stream.as_str().as_bytes());
            out.extend_from_slice(b"\",\"chunk\":");
            encode::base64_string(chunk.chunk.as_ref(), out);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"nextSeq\":");
        encode::number(self.next_seq, out);
        let rest = serde_json::json!({
            "exited": self.exited, "exitCode": self.exit_code, "closed": self.closed,
            "failure": self.failure, "sandboxDenied": self.sandbox_denied,
            "lostBytes": self.lost_bytes, "totals": self.totals, "exit": self.exit,
        });
        let at = out.len();
        encode::json(&rest, out);
        // The rest's opening brace becomes the comma after `nextSeq`.
        if let Some(brace) = out.get_mut(at) {
            *brace = b',';
        }
    }
}

impl AsRef<[u8]> for Base64Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Params of `process/write`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// Which process.
    pub process_id: String,
    /// The bytes.
    pub chunk: Base64Bytes,
    /// Makes a retry harmless; absent from old clients, not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_id: Option<String>,
}

/// What became of a write (8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WriteStatus {
    /// Queued for the child.
    Accepted,
    /// No such process.
    UnknownProcess,
    /// Started without a writable stdin, or closed since.
    StdinClosed,
    /// The start is not finished.
    Starting,
}

/// Result of `process/write`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteResult {
    /// What became of it.
    pub status: WriteStatus,
}

/// A signal by its usual word; only `interrupt` is known to released servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignalName {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGHUP.
    Hangup,
    /// SIGQUIT.
    Quit,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
    /// SIGWINCH.
    WindowChange,
}

/// Params of `process/signal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalParams {
    /// Which process.
    pub process_id: String,
    /// Which signal.
    pub signal: SignalName,
}

/// Params of `process/terminate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateParams {
    /// Which process.
    pub process_id: String,
    /// Extension: SIGTERM now, SIGKILL after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// Result of `process/terminate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TerminateResult {
    /// It was running.
    pub running: bool,
}

/// Params of `process/list`: none; unknown members are ignored.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ListParams {}

impl<'de> Deserialize<'de> for ListParams {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Empty>::deserialize(deserializer).map(|_| Self {})
    }
}

/// Result of `process/list`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResult {
    /// Every process of the session that has not been evicted, in order of start.
    pub processes: Vec<ProcessInfo>,
}

/// Where a process stands (extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProcessState {
    /// The start is not finished.
    Starting,
    /// The child runs.
    Running,
    /// The child was reaped; something may still hold its output.
    Exited,
    /// Exited, and all output seen.
    Closed,
}

/// One process (extension).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessInfo {
    /// The client's id.
    pub process_id: String,
    /// The operating system's id; null while starting.
    pub pid: Option<u32>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// On a terminal.
    pub tty: bool,
    /// Where it stands.
    pub state: ProcessState,
    /// Null until exited.
    pub exit_code: Option<i32>,
    /// Null until exited.
    pub exit: Option<ExitDetails>,
    /// The number the next event will have.
    pub next_seq: u64,
    /// Each stream's total since the start.
    pub totals: StreamTotals,
    /// Descendants that outlived it.
    pub leftovers: Vec<Leftover>,
}

/// A descendant that outlived an ended process (extension).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The operating system's id.
    pub pid: u32,
    /// The program's short name.
    pub name: String,
}

/// Params of `process/wait`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitParams {
    /// Which process.
    pub process_id: String,
    /// Give up after this many milliseconds; without it, wait for the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Result of `process/wait`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitResult {
    /// False when the time was up first.
    pub exited: bool,
    /// Null until exited.
    pub exit_code: Option<i32>,
    /// Exited, and all output seen.
    pub closed: bool,
    /// Null until exited.
    pub exit: Option<ExitDetails>,
}

/// Params of `process/resize`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeParams {
    /// Which process.
    pub process_id: String,
    /// 1 or more.
    pub rows: u16,
    /// 1 or more.
    pub cols: u16,
}

/// Params of `process/closeStdin`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseStdinParams {
    /// Which process.
    pub process_id: String,
}

/// Params of `process/output`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputParams {
    /// Which process.
    pub process_id: String,
    /// Its number.
    pub seq: u64,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes.
    pub chunk: Base64Bytes,
}

/// Appends a whole `process/output` notification; `process_id_json` is the id as a JSON string.
pub fn encode_output(process_id_json: &str, seq: u64, stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\":\"process/output\",\"params\":{\"processId\":");
    out.extend_from_slice(process_id_json.as_bytes());
    out.extend_from_slice(b",\"seq\":");
    encode::number(seq, out);
    out.extend_from_slice(b",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"chunk\":");
    encode::base64_string(bytes, out);
    out.extend_from_slice(b"}}");
}

/// Params of `process/exited`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitedParams {
    /// Which process.
    pub process_id: String,
    /// Its number.
    pub seq: u64,
    /// 0 to 255, 128 + n for a signal, 1 for a signal on a terminal (8.6).
    pub exit_code: i32,
    /// The sandbox was in the way.
    #[serde(default)]
    pub sandbox_denied: bool,
    /// Extension: how it ended.
    #[serde(flatten)]
    pub exit: ExitDetails,
}

/// Params of `process/closed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedParams {
    /// Which process.
    pub process_id: String,
    /// Its number, always the last.
    pub seq: u64,
}

encode_with_serde!(StartResult, WriteResult, TerminateResult, ListResult, WaitResult);
