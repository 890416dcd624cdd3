//! Running programs (section 8, and `docs/extensions.md` for what is ours).

mod logs;
mod output;
mod start;

use serde::{Deserialize, Serialize};

use crate::encode::{Empty, encode_with_serde};
use crate::ids::{ProcessId, SessionId};
use crate::{Base64Bytes, Seq, methods, notifications};

pub use logs::*;
pub use output::*;
pub use start::*;

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
    /// Lists the logs that are kept on disk (extension).
    ListLogs: "process/listLogs" (ListLogsParams) -> ListLogsResult;
    /// Waits for a process's end (extension).
    Wait: "process/wait" (WaitParams) -> WaitResult;
    /// Changes a terminal's size (extension).
    Resize: "process/resize" (ResizeParams) -> Empty;
    /// Closes a process's stdin after what is queued (extension).
    CloseStdin: "process/closeStdin" (CloseStdinParams) -> Empty;
    /// Takes a process's input over, until somebody else does (extension).
    Attach: "process/attach" (AttachParams) -> AttachResult;
}
notifications! {
    /// A piece of output (8.6).
    Output: "process/output" (OutputParams);
    /// The child was reaped (8.6).
    Exited: "process/exited" (ExitedParams);
    /// Exited, and all output seen (8.6).
    Closed: "process/closed" (ClosedParams);
}

/// Params of `process/write`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// The process to write to.
    pub process_id: ProcessId,
    /// The bytes to write; may be empty.
    pub chunk: Base64Bytes,
    /// Makes a retry harmless; absent from old clients, not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_id: Option<String>,
    /// Extension: nothing follows; stdin is closed once the chunk has reached the program, as `process/closeStdin` does it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eof: bool,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Extension: the attachment that writes; refused once another has taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<String>,
}

/// What became of a write (8.4).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WriteStatus {
    /// Queued for the child.
    Accepted,
    /// There is no process with this id.
    UnknownProcess,
    /// Started without a writable stdin, or closed since.
    StdinClosed,
    /// The start is not finished.
    Starting,
    /// Extension: another attachment writes to it now.
    TakenOver,
}

/// Result of `process/write`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteResult {
    /// What became of it.
    pub status: WriteStatus,
}

/// A signal by its usual word; only `interrupt` is known to released servers.
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalParams {
    /// The process to signal.
    pub process_id: ProcessId,
    /// The signal to send.
    pub signal: SignalName,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// Params of `process/terminate`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateParams {
    /// The process to end.
    pub process_id: ProcessId,
    /// Extension: SIGTERM now, SIGKILL after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// Result of `process/terminate`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TerminateResult {
    /// Whether the program was running.
    pub running: bool,
}

/// Params of `process/list`; unknown members are ignored.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListParams {
    /// Extension of it: the processes of every session that the same user has opened, each with its session's id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_sessions: bool,
}

impl<'de> Deserialize<'de> for ListParams {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Given {
            all_sessions: bool,
        }
        let given = Option::<Given>::deserialize(deserializer)?.unwrap_or_default();
        Ok(Self { all_sessions: given.all_sessions })
    }
}

/// Result of `process/list`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResult {
    /// Every process of the session that has not been evicted, in order of start.
    pub processes: Vec<ProcessInfo>,
}

/// Where a process stands (extension).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProcessState {
    /// The start is not finished.
    Starting,
    /// The program is running.
    Running,
    /// The child was reaped; something may still hold its output.
    Exited,
    /// Exited, and all output seen.
    Closed,
}

/// One process (extension).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessInfo {
    /// The id that the client chose.
    pub process_id: ProcessId,
    /// The operating system's id; null while starting.
    pub pid: Option<u32>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whether it runs on a terminal.
    pub tty: bool,
    /// How far the process has come.
    pub state: ProcessState,
    /// The exit code; null while the program runs.
    pub exit_code: Option<i32>,
    /// How it ended; null while the program runs.
    pub exit: Option<ExitDetails>,
    /// The number the next event will have.
    pub next_seq: Seq,
    /// Each stream's total since the start.
    pub totals: StreamTotals,
    /// Descendants that outlived it.
    pub leftovers: Vec<Leftover>,
    /// What enforces its limits; missing if it has none, and while it is starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_enforced: Option<LimitsEnforced>,
    /// The id of its log on disk; missing if it is kept in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<String>,
    /// The session that has it; only in a list of all sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Whether that session has a connection; only in a list of all sessions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
    /// Milliseconds since its start; missing while it starts and once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_ms: Option<u64>,
    /// Rows of its terminal; missing without one, and once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Columns of its terminal, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
}

/// A descendant that outlived an ended process (extension).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The operating system's id.
    pub pid: u32,
    /// The program's short name.
    pub name: String,
}

/// Params of `process/wait`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitParams {
    /// The process to wait for.
    pub process_id: ProcessId,
    /// Answer after this many milliseconds at the latest; without it, wait for the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// Result of `process/wait`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitResult {
    /// False when the time was up first.
    pub exited: bool,
    /// The exit code; null while the program runs.
    pub exit_code: Option<i32>,
    /// Exited, and all output seen.
    pub closed: bool,
    /// How it ended; null while the program runs.
    pub exit: Option<ExitDetails>,
}

/// Params of `process/resize`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResizeParams {
    /// The process that has the terminal.
    pub process_id: ProcessId,
    /// Rows, 1 or more.
    pub rows: u16,
    /// Columns, 1 or more.
    pub cols: u16,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// Params of `process/closeStdin`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseStdinParams {
    /// The process whose stdin is closed.
    pub process_id: ProcessId,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// Params of `process/attach`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachParams {
    /// The process whose input is taken over.
    pub process_id: ProcessId,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Chosen by the client, and like no other; its writes and reads name it.
    pub attachment_id: String,
    /// The last number that the client has; from there on nothing is dropped that it has not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<Seq>,
}

/// How an attachment ended (extension).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttachmentEnd {
    /// Another attachment has taken over.
    TakenOver,
    /// The process is over, and all output seen.
    Closed,
}

/// Result of `process/attach`, which comes when the attachment has ended.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachResult {
    /// Why it ended.
    pub reason: AttachmentEnd,
}

encode_with_serde!(StartResult, WriteResult, TerminateResult, ListResult, WaitResult, AttachResult);
