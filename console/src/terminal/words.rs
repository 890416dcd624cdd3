//! What a page and its terminal say to each other. Text is JSON; bytes are input one way, and the other way output behind a
//! head of 17 bytes: which stream, the last event's number, and the offset behind it, in network order.

use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{ExitDetails, ProcessState, SignalName, Stream};
use serde::{Deserialize, Serialize};

/// Longest message of a page. A page cuts what is pasted into pieces of 4 KiB. A safeguard, far from any real use.
pub(crate) const LONGEST_MESSAGE: usize = 64 << 10;

/// What a page says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", deny_unknown_fields)]
pub(super) enum Asked {
    /// It has drawn so many bytes.
    Drawn {
        /// Of output.
        bytes: u64,
    },
    /// Its terminal has this size now, and so shall the program's.
    Resize {
        /// 1 or more.
        rows: u16,
        /// 1 or more.
        cols: u16,
    },
    /// The program gets a signal.
    Signal {
        /// Which one.
        signal: SignalName,
    },
    /// Nothing more is typed.
    EndOfInput,
    /// The end is wanted, and what is missed until then is not.
    Jump,
}

/// What a page is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub(super) enum Told<'a> {
    /// What the program is; also after a connection came back.
    #[serde(rename_all = "camelCase")]
    Process {
        tty: bool,
        state: ProcessState,
        rows: Option<u16>,
        cols: Option<u16>,
        argv: &'a [String],
        may_type: bool,
    },
    /// So many bytes are not shown.
    Skipped { bytes: u64 },
    /// So many bytes lie before the program's end that the page has not got yet.
    Behind { bytes: u64 },
    /// The program has taken so many bytes of input.
    Taken { bytes: u64 },
    /// Input, a signal or a size did not arrive; why.
    Refused { reason: String },
    /// The environment can't be reached at the moment; it is tried again.
    Away { reason: String },
    /// The program is over.
    #[serde(rename_all = "camelCase")]
    Over { exit_code: Option<i32>, exit: Option<ExitDetails> },
    /// There is no such program any more.
    Gone { reason: String },
}

/// A piece of output with its head.
pub(super) fn output(stream: Stream, seq: Seq, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(17 + bytes.len());
    message.push(match stream {
        Stream::Stdout | Stream::Pty => 1,
        Stream::Stderr => 2,
    });
    message.extend_from_slice(&seq.0.to_be_bytes());
    message.extend_from_slice(&offset.to_be_bytes());
    message.extend_from_slice(bytes);
    message
}
