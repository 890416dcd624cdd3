//! What a program prints and how it ends: read (8.3) and announced (8.6).

use serde::{Deserialize, Serialize};

use crate::ids::{ProcessId, SessionId};
use crate::{Base64Bytes, Seq, WireEncode, encode};

/// Params of `process/read`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadParams {
    /// The process to read from.
    pub process_id: ProcessId,
    /// Return what comes after this number; default 0.
    #[serde(default)]
    pub after_seq: Option<Seq>,
    /// Bound on decoded bytes; at least one chunk is returned.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// Wait this many milliseconds for something new.
    #[serde(default)]
    pub wait_ms: Option<u64>,
    /// Extension: return what begins at this byte of the output of all streams together, instead of `after_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_offset: Option<u64>,
    /// Extension: read this log on disk; `process_id` says nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<String>,
    /// Extension: also tell when each chunk was written, of a log that `log_id` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_times: Option<bool>,
    /// Extension: the session that has the process, where it is not one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Extension: the attachment that reads; what it has not read is not dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<String>,
}

/// Where output comes from.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The pipe of file descriptor 1.
    Stdout,
    /// The pipe of file descriptor 2.
    Stderr,
    /// Output of a terminal, both streams together.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chunk<B = Base64Bytes> {
    /// Sequence number of the chunk.
    pub seq: Seq,
    /// Where it came from.
    pub stream: Stream,
    /// The output itself.
    pub chunk: B,
}

/// How a process ended, in full (extension).
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// The kernel killed it or a descendant for using more memory than its limits allow.
    #[serde(default)]
    pub oom_killed: bool,
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

    /// Of all streams together.
    pub fn sum(&self) -> u64 {
        self.stdout.saturating_add(self.stderr).saturating_add(self.pty)
    }
}

/// Result of `process/read`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadResult<B = Base64Bytes> {
    /// Retained output after `afterSeq`, in order.
    pub chunks: Vec<Chunk<B>>,
    /// What to read after, as 8.3 defines it.
    pub next_seq: Seq,
    /// The child was reaped.
    pub exited: bool,
    /// The exit code; null until `exited`.
    pub exit_code: Option<i32>,
    /// Exited, and all output seen.
    pub closed: bool,
    /// Why nobody knows how the program ended, for people; only of a log on disk, else always null from this server.
    #[serde(default)]
    pub failure: Option<String>,
    /// The sandbox was in the way; absent from old servers.
    #[serde(default)]
    pub sandbox_denied: bool,
    /// Extension: bytes between `afterSeq` and the first chunk that are no longer retained.
    #[serde(default)]
    pub lost_bytes: u64,
    /// Extension: each stream's total since the start.
    #[serde(default)]
    pub totals: StreamTotals,
    /// Extension: how it ended; null until `exited`.
    #[serde(default)]
    pub exit: Option<ExitDetails>,
    /// Extension: what `fromOffset` continues at; only of a read by offset, or of a log on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
    /// Extension: when each chunk was written, in milliseconds since 1970; only where `with_times` asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_times_ms: Option<Vec<u64>>,
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
            encode::number(chunk.seq.0, out);
            out.extend_from_slice(b",\"stream\":\"");
            out.extend_from_slice(chunk.stream.as_str().as_bytes());
            out.extend_from_slice(b"\",\"chunk\":");
            encode::base64_string(chunk.chunk.as_ref(), out);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"nextSeq\":");
        encode::number(self.next_seq.0, out);
        let mut rest = serde_json::json!({
            "exited": self.exited, "exitCode": self.exit_code, "closed": self.closed,
            "failure": self.failure, "sandboxDenied": self.sandbox_denied,
            "lostBytes": self.lost_bytes, "totals": self.totals, "exit": self.exit,
        });
        if let Some(next) = self.next_offset {
            rest["nextOffset"] = next.into();
        }
        if let Some(times) = &self.chunk_times_ms {
            rest["chunkTimesMs"] = times.as_slice().into();
        }
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

/// Params of `process/output`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputParams {
    /// The process that printed it.
    pub process_id: ProcessId,
    /// Sequence number of the output.
    pub seq: Seq,
    /// Where it came from.
    pub stream: Stream,
    /// The output itself.
    pub chunk: Base64Bytes,
}

/// Appends a whole `process/output` notification.
pub fn encode_output(process_id: &ProcessId, seq: Seq, stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\":\"process/output\",\"params\":{\"processId\":");
    encode::json(process_id.as_str(), out);
    out.extend_from_slice(b",\"seq\":");
    encode::number(seq.0, out);
    out.extend_from_slice(b",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"chunk\":");
    encode::base64_string(bytes, out);
    out.extend_from_slice(b"}}");
}

/// Params of `process/exited`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitedParams {
    /// The process that ended.
    pub process_id: ProcessId,
    /// Sequence number of the exit.
    pub seq: Seq,
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedParams {
    /// The process that is closed.
    pub process_id: ProcessId,
    /// Its number, always the last.
    pub seq: Seq,
}
