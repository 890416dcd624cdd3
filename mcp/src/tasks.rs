//! Programs as tasks, for clients that have the tasks extension (`io.modelcontextprotocol/tasks`): the call of a program
//! that goes on is answered at once, and the client's own code asks for its result.
//!
//! A task holds nothing but the name of its program: its state and its result are looked up when they are asked for. So it
//! lives as long as its program is known, whoever started it, and no longer than a bounded time.

use std::collections::HashMap;
use std::time::Duration;

use codex_exec_protocol::ProcessId;
use codex_exec_server::interactive::{Ask, Budget, Listed, Shape, State};
use parking_lot::Mutex;
use rmcp::model::{DetailedTask, ErrorData, JsonObject, Task, TaskPayload, TaskStatus};
use rmcp::task_manager::current_timestamp;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::environments::{Connected, Environments};
use crate::limits::{Limits, TERMINATE_GRACE};
use crate::looks::{millis, shown};
use crate::outcome::{self, Refused};

/// How often a client is asked to look. Our own pace: nothing outside depends on it.
const POLL: Duration = Duration::from_secs(1);

/// The tasks that there are, by id.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<HashMap<String, Kept>>);

#[derive(Clone)]
struct Kept {
    process: ProcessId,
    /// What the call wanted to be shown, in bytes.
    shown: usize,
    begun: Instant,
    created_at: String,
    /// When it was seen to have ended.
    ended_at: Option<String>,
    cancelled: bool,
}

impl Kept {
    fn task(&self, id: &str, life: Duration) -> Task {
        let updated = self.ended_at.clone().unwrap_or_else(current_timestamp);
        Task::new(id, TaskStatus::Working, self.created_at.clone(), updated)
            .with_ttl_ms(millis(life))
            .with_poll_interval_ms(millis(POLL))
    }
}

impl Tasks {
    /// A task for a program that runs. Those whose programs are forgotten go.
    pub(crate) fn begin(
        &self,
        environments: &Environments,
        limits: &Limits,
        line: &Listed,
        shown: usize,
    ) -> Task {
        let id = Uuid::new_v4().to_string();
        let kept = Kept {
            process: line.process.clone(),
            shown,
            begun: Instant::now(),
            created_at: current_timestamp(),
            ended_at: None,
            cancelled: false,
        };
        let task = kept.task(&id, limits.task_life).with_status_message(running(line));
        let mut all = self.0.lock();
        all.retain(|_, kept| kept.begun.elapsed() < limits.task_life && environments.knows(&kept.process));
        all.insert(id, kept);
        task
    }

    /// How far a task has come; with its result, if it has ended.
    pub(crate) async fn get(
        &self,
        environments: &Environments,
        limits: &Limits,
        id: &str,
    ) -> Result<DetailedTask, ErrorData> {
        let (kept, there) = self.find(environments, limits, id).await?;
        if kept.cancelled {
            return Ok(DetailedTask::new(kept.task(id, limits.task_life), TaskPayload::Cancelled));
        }
        let Ok(line) = there.programs.listed(&kept.process) else { return Err(unknown(id)) };
        if line.state == State::Running {
            let task = kept.task(id, limits.task_life).with_status_message(running(&line));
            return Ok(DetailedTask::new(task, TaskPayload::Working));
        }
        let result = result(&there, &kept, limits).await.map_err(|_| unknown(id))?;
        let kept = self.ended(id).unwrap_or(kept);
        Ok(DetailedTask::new(kept.task(id, limits.task_life), TaskPayload::Completed { result }))
    }

    /// Ends the program of a task. One that has ended already stays as it is.
    pub(crate) async fn cancel(
        &self,
        environments: &Environments,
        limits: &Limits,
        id: &str,
    ) -> Result<(), ErrorData> {
        let (kept, there) = self.find(environments, limits, id).await?;
        if kept.cancelled
            || there.programs.listed(&kept.process).is_ok_and(|line| line.state != State::Running)
        {
            return Ok(());
        }
        let ended = there.programs.terminate(&kept.process, Some(TERMINATE_GRACE)).await;
        match ended {
            Ok(true) => {
                let _ = self.ended(id);
                if let Some(kept) = self.0.lock().get_mut(id) {
                    kept.cancelled = true;
                }
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(ErrorData::internal_error(error.to_string(), None)),
        }
    }

    /// Whether there is such a task. None asks its client for anything, so there is nothing to take.
    pub(crate) async fn update(
        &self,
        environments: &Environments,
        limits: &Limits,
        id: &str,
    ) -> Result<(), ErrorData> {
        self.find(environments, limits, id).await.map(drop)
    }

    async fn find(
        &self,
        environments: &Environments,
        limits: &Limits,
        id: &str,
    ) -> Result<(Kept, Connected), ErrorData> {
        let kept = self.0.lock().get(id).filter(|kept| kept.begun.elapsed() < limits.task_life).cloned();
        let kept = kept.ok_or_else(|| unknown(id))?;
        let there = environments.with_program(&kept.process).await.map_err(|_| unknown(id))?;
        Ok((kept, there))
    }

    /// Notes when a task was first seen to have ended.
    fn ended(&self, id: &str) -> Option<Kept> {
        let mut all = self.0.lock();
        let kept = all.get_mut(id)?;
        kept.ended_at.get_or_insert_with(current_timestamp);
        Some(kept.clone())
    }
}

/// What `exec` would have answered, had it waited for the end.
async fn result(there: &Connected, kept: &Kept, limits: &Limits) -> Result<JsonObject, Refused> {
    let ask = Ask {
        cursor: Some(0),
        wait: limits.short_wait,
        budget: Budget::Bytes(kept.shown),
        shape: Shape::HeadAndTail,
    };
    let reading = there.programs.read(&kept.process, &ask).await?;
    match serde_json::to_value(outcome::result(Ok(shown(&there.name, &reading)))) {
        Ok(Value::Object(result)) => Ok(result),
        _ => Err(Refused::because("a result is an object")),
    }
}

fn running(line: &Listed) -> String {
    format!("runs as process {}, {} bytes printed", line.process, line.total_bytes)
}

fn unknown(id: &str) -> ErrorData {
    let asked: String = id.chars().take(80).collect();
    ErrorData::invalid_params(
        format!(
            "there is no task {asked:?}: it was never begun here, it has expired, or its program made room for others"
        ),
        None,
    )
}
