//! Logs on disk: `process/listLogs`, and `process/read` of a log whose program may be over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{ListLogsParams, ListLogsResult, ReadParams, ReadResult};
use tokio::time::Instant;

use super::{Machine, Reading, Reply};
use crate::blocking;
use crate::limits::Limits;
use crate::logs::{Logs, OpenLogs};
use crate::process::stored;

/// How often a log is looked at for news that another server may write, or another session's program.
/// Our own pace: nothing outside depends on it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Machine {
    /// `process/listLogs`.
    pub(crate) fn list_logs(&self, params: ListLogsParams, reply: impl Reply<ListLogsResult>) {
        let (logs, limits) = (self.common.logs().clone(), Arc::clone(&self.common.limits));
        let slots = Arc::clone(&self.slots);
        self.beside(async move {
            let slot = slots.acquire_owned().await;
            let list = move || stored::list(opened(&logs)?.store(), params, &limits);
            let result = blocking::spawn(list).await.map_err(|error| RpcError::internal(error.to_string()));
            reply.answer_holding(result.flatten(), slot);
        });
    }

    /// `process/read` of a log on disk, by its id. With `waitMs` it waits for news, as every read does.
    pub(super) fn read_log(&self, params: ReadParams, mut reply: impl Reply<Reading>) {
        let (logs, limits) = (self.common.logs().clone(), Arc::clone(&self.common.limits));
        let wait = Duration::from_millis(params.wait_ms.unwrap_or(0)).min(limits.connection.longest_wait);
        self.beside(async move {
            let result = tokio::select! {
                result = read_within(logs, params, limits, wait) => result,
                () = reply.gone() => return,
            };
            reply.room().await;
            reply.answer(result.map(|result| Reading { result, process: None }));
        });
    }
}

/// Reads once there is something to tell, or the time is up.
async fn read_within(
    logs: Logs,
    params: ReadParams,
    limits: Arc<Limits>,
    wait: Duration,
) -> Result<ReadResult<Bytes>, RpcError> {
    let until = Instant::now() + wait;
    loop {
        let (logs, params, limits) = (logs.clone(), params.clone(), Arc::clone(&limits));
        let read = blocking::spawn(move || read(&logs, &params, &limits)).await;
        let result = read.map_err(|error| RpcError::internal(error.to_string())).flatten()?;
        if Instant::now() >= until || !result.chunks.is_empty() || result.closed {
            return Ok(result);
        }
        tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
    }
}

fn read(logs: &Logs, params: &ReadParams, limits: &Limits) -> Result<ReadResult<Bytes>, RpcError> {
    let id = stored::log_id(params.log_id.as_deref().unwrap_or_default())?;
    stored::read(&stored::reader(opened(logs)?.store(), id)?, params, limits)
}

/// The opened store.
fn opened(logs: &Logs) -> Result<Arc<OpenLogs>, RpcError> {
    let open = logs.open().map_err(|error| stored::refusal(&error))?;
    open.ok_or_else(|| RpcError::invalid_request("this server keeps no logs on disk"))
}
