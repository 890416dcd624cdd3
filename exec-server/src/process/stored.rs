//! Reads logs on disk, of programs that run and of those that are over, for clients.

use std::sync::Arc;

use bytes::Bytes;
use codex_disk_log::{From, Kind, Listed, LogError, LogId, LogReader, Outcome, Page, Record, Start, Store};
use codex_exec_protocol::process::{
    Chunk, ListLogsParams, ListLogsResult, LogInfo, LogPlace, LoggedExit, ReadParams, ReadResult,
    StartParams, Stream,
};
use codex_exec_protocol::{RpcError, Seq};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::logs::{DiskLog, Logs};

/// What is said about a program in its log; of newer servers it may have more.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct LoggedStart {
    process_id: String,
    argv: Vec<String>,
    cwd: String,
    tty: bool,
    rows: Option<u16>,
    cols: Option<u16>,
}

/// Begins the log on disk of a program that is to be started, if one is asked for. Blocks then.
///
/// # Errors
/// `-32603` when it can't be made.
pub(super) fn begin(logs: &Logs, params: &StartParams) -> Result<Option<Arc<DiskLog>>, RpcError> {
    if params.log == LogPlace::Memory {
        return Ok(None);
    }
    let about = LoggedStart {
        process_id: params.process_id.as_str().to_owned(),
        argv: params.argv.clone(),
        cwd: params.cwd.0.to_string_lossy().into_owned(),
        tty: params.tty,
        rows: params.rows.filter(|_| params.tty),
        cols: params.cols.filter(|_| params.tty),
    };
    let about = serde_json::to_vec(&about).unwrap_or_default();
    let begun = logs.open().and_then(|open| open.map(|open| open.begin(&about)).transpose());
    begun.map_err(|error| RpcError::internal(format!("the output can't be kept on disk: {error}")))
}

/// Why a log can't be read, as the protocol says it.
pub(crate) fn refusal(error: &LogError) -> RpcError {
    match error {
        LogError::Unknown(_) | LogError::NoId(_) => RpcError::invalid_request(error.to_string()),
        _ => RpcError::internal(error.to_string()),
    }
}

/// The id of a log in a request.
///
/// # Errors
/// `-32600` for what is none.
pub(crate) fn log_id(text: &str) -> Result<LogId, RpcError> {
    text.parse().map_err(|error| refusal(&error))
}

/// The log of this id.
///
/// # Errors
/// `-32600` when there is none, `-32603` when it can't be read.
pub(crate) fn reader(store: &Store, id: LogId) -> Result<LogReader, RpcError> {
    store.reader(id).map_err(|error| refusal(&error))
}

/// What a read finds in a log on disk, and where the next one begins.
///
/// # Errors
/// `-32603` when it can't be read.
pub(crate) fn read(
    reader: &LogReader,
    params: &ReadParams,
    limits: &Limits,
) -> Result<ReadResult<Bytes>, RpcError> {
    let retained = limits.process.retained_output_bytes as u64;
    let from = match params.from_offset {
        Some(offset) => From::Offset(offset),
        None => From::Seq(params.after_seq.unwrap_or_default().next().0),
    };
    let page = reader.page(from, params.max_bytes.unwrap_or(retained)).map_err(|error| refusal(&error))?;
    Ok(result(page, params.with_times == Some(true)))
}

fn result(page: Page, with_times: bool) -> ReadResult<Bytes> {
    let end = page.end;
    let said = end.as_ref().and_then(|end| exit_of(end.exit.as_deref()));
    let here = page.records.iter().rfind(|record| record.head.kind == Kind::Exited);
    let exit = said.or_else(|| exit_of(here.map(|record| &record.content[..])));
    let failure = end.as_ref().filter(|_| exit.is_none()).map(|end| unknown_end(end.outcome).to_owned());
    let times =
        || page.records.iter().filter(|record| record.head.kind.is_output()).map(|record| record.head.time);
    ReadResult {
        chunk_times_ms: with_times.then(|| times().collect()),
        chunks: page.records.into_iter().filter_map(chunk).collect(),
        next_seq: Seq(page.next.seq),
        exited: exit.is_some() || end.is_some(),
        exit_code: exit.as_ref().map(|exit| exit.code),
        closed: end.is_some(),
        failure,
        sandbox_denied: exit.as_ref().is_some_and(|exit| exit.sandbox_denied),
        lost_bytes: page.lost.iter().map(|loss| loss.bytes).sum(),
        totals: exit.as_ref().map(|exit| exit.totals).unwrap_or_default(),
        exit: exit.map(|exit| exit.details),
        next_offset: Some(page.next.offset),
    }
}

fn exit_of(said: Option<&[u8]>) -> Option<LoggedExit> {
    serde_json::from_slice(said?).ok()
}

fn chunk(record: Record) -> Option<Chunk<Bytes>> {
    let stream = match record.head.kind {
        Kind::Stdout => Stream::Stdout,
        Kind::Stderr => Stream::Stderr,
        Kind::Pty => Stream::Pty,
        _ => return None,
    };
    Some(Chunk { seq: Seq(record.head.seq), stream, chunk: record.content.into() })
}

/// Why nobody knows how a program ended.
fn unknown_end(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Closed => {
            "the session ended before the end of the program was seen; how it ended is not known"
        }
        Outcome::ServerLost => "the server died while the program ran; how it ended is not known",
        Outcome::MachineLost => {
            "the machine went down while the program ran; the program died with it, and how is not known"
        }
    }
}

/// `process/listLogs`.
///
/// # Errors
/// `-32603` when the store can't be read.
pub(crate) fn list(
    store: &Store,
    params: ListLogsParams,
    limits: &Limits,
) -> Result<ListLogsResult, RpcError> {
    let most = limits.logs.listed_logs;
    let most = params.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(most).clamp(1, most);
    let mut logs = Vec::new();
    if params.before.is_none() {
        let running = store.running().map_err(|error| refusal(&error))?;
        logs.extend(running.into_iter().take(most).map(|(id, start)| running_log(id, &start)));
    }
    let room = most.saturating_sub(logs.len()).max(1);
    let (ended, next) = store.list(params.before, room).map_err(|error| refusal(&error))?;
    logs.extend(ended.iter().map(ended_log));
    Ok(ListLogsResult { logs, next })
}

fn running_log(id: LogId, start: &Start) -> LogInfo {
    info(id, &start.about, start.time)
}

fn info(id: LogId, about: &[u8], started_ms: u64) -> LogInfo {
    let said: LoggedStart = serde_json::from_slice(about).unwrap_or_default();
    LogInfo {
        log_id: id.to_string(),
        process_id: said.process_id.into(),
        argv: said.argv,
        cwd: said.cwd,
        tty: said.tty,
        rows: said.rows,
        cols: said.cols,
        started_ms,
        ended_ms: None,
        exit_code: None,
        exit: None,
        failure: None,
        output_bytes: None,
    }
}

fn ended_log(listed: &Listed) -> LogInfo {
    let entry = &listed.entry;
    let exit = exit_of(listed.exit.as_deref());
    LogInfo {
        ended_ms: Some(entry.ended),
        exit_code: exit.as_ref().map(|exit| exit.code),
        failure: exit.is_none().then(|| unknown_end(entry.outcome).to_owned()),
        exit: exit.map(|exit| exit.details),
        output_bytes: Some(entry.position.offset),
        ..info(entry.id, &listed.about, entry.started)
    }
}
