//! Logs of output that are kept on disk (extension).

use serde::{Deserialize, Serialize};

use super::{ExitDetails, StreamTotals};
use crate::encode::encode_with_serde;
use crate::ids::ProcessId;

/// Where a program's output is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogPlace {
    /// In the server's memory, a bounded part of it, for a while.
    #[default]
    Memory,
    /// Also on disk, from the first byte, beyond the session and the server.
    Disk,
}

impl LogPlace {
    /// As if nothing was said.
    pub(super) fn is_memory(&self) -> bool {
        *self == Self::Memory
    }
}

/// Params of `process/listLogs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ListLogsParams {
    /// The next page: what the last answer gave as `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Logs of one page at most; the server has a bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Result of `process/listLogs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListLogsResult {
    /// On the first page the logs of programs that have not ended, oldest first; then those that ended, the last first.
    pub logs: Vec<LogInfo>,
    /// Where the next page begins; null when this was the last.
    #[serde(default)]
    pub next: Option<u64>,
}

/// One log on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogInfo {
    /// Its id, for `process/read`: 32 hexadecimal digits.
    pub log_id: String,
    /// The id that the client gave the program, within its session.
    #[serde(default)]
    pub process_id: ProcessId,
    /// The program and its arguments.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Its working directory, as a native path.
    #[serde(default)]
    pub cwd: String,
    /// Whether it runs on a terminal.
    #[serde(default)]
    pub tty: bool,
    /// The rows of its terminal at the start, where the client said them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Its columns, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// When the log ended, likewise; null before.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// The exit code; null while the program runs, and when nobody saw its end.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// How it ended; null likewise.
    #[serde(default)]
    pub exit: Option<ExitDetails>,
    /// Why the end is not known, for people; null when it is, and while the program runs.
    #[serde(default)]
    pub failure: Option<String>,
    /// Bytes of all output; null before the end.
    #[serde(default)]
    pub output_bytes: Option<u64>,
}

/// What is kept of an end beside the output; of newer servers it may have more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LoggedExit {
    /// The exit code.
    pub code: i32,
    /// How it ended.
    pub details: ExitDetails,
    /// The sandbox was in the way.
    pub sandbox_denied: bool,
    /// Each stream's total.
    pub totals: StreamTotals,
}

encode_with_serde!(ListLogsResult);
