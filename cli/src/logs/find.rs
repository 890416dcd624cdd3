//! Which output is meant: that of a program that the server knows, or else a log on disk.

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::process::{ListLogs, ListLogsParams, LogInfo, ProcessState};

use super::source::From;
use crate::programs::{self, ProgramError};

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) from: From,
    /// Bytes of all streams together so far, where that is known.
    pub(super) total: Option<u64>,
    /// The program has ended, and so will its log, in a moment if not yet.
    pub(super) ends: bool,
}

/// Finds it: the program of this id, or the newest log on disk of such a program, or of this log's id. With `timed` only a log
/// on disk will do.
///
/// # Errors
/// There is none, or several may be meant.
pub(super) async fn find(client: &Client, id: &str, timed: bool) -> Result<Found, ProgramError> {
    let absent = match programs::find(client, id).await {
        Ok((place, info)) => {
            let ends = info.state == ProcessState::Closed;
            let totals = info.totals;
            let from = match (timed, info.log_id) {
                (false, _) => From::Process(place),
                (true, Some(log)) => From::Log(log),
                (true, None) => {
                    return Err(ProgramError::Unknown(format!(
                        "the output of {} has no times, since it is kept in memory alone; `run -d` keeps it on disk where the \
                         server has a place for logs",
                        place.process
                    )));
                }
            };
            return Ok(Found { from, total: Some(totals.stdout + totals.stderr + totals.pty), ends });
        }
        Err(ProgramError::Absent(sentence)) => ProgramError::Absent(sentence),
        Err(other) => return Err(other),
    };
    let log = newest(client, id).await?.ok_or(absent)?;
    Ok(Found { from: From::Log(log.log_id), total: log.output_bytes, ends: log.ended_ms.is_some() })
}

/// The newest log on disk that is meant.
pub(crate) async fn newest(client: &Client, id: &str) -> Result<Option<LogInfo>, ProgramError> {
    let (mut before, mut like) = (None, Vec::<LogInfo>::new());
    loop {
        let page = match client.call::<ListLogs>(&ListLogsParams { before, limit: None }).await {
            Ok(page) => page,
            // It keeps none.
            Err(ClientError::Rpc(_)) => break,
            Err(error) => return Err(error.into()),
        };
        for log in page.logs {
            if log.process_id == *id || log.log_id == id {
                return Ok(Some(log));
            }
            let known = || like.iter().any(|other| other.process_id == log.process_id);
            if !id.is_empty() && log.process_id.starts_with(id) && !known() {
                like.push(log);
            }
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    if like.len() > 1 {
        let ids: Vec<_> = like.iter().map(|log| log.process_id.as_str()).collect();
        return Err(ProgramError::Unknown(format!(
            "{id:?} may be any of {}; give more of its id",
            ids.join(", ")
        )));
    }
    Ok(like.pop())
}
