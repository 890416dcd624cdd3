//! One call of a tool, and what several tools do.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use codex_exec_protocol::ProcessId;
use codex_exec_protocol::process::{EnvPolicy, StartParams};
use codex_exec_protocol::sandbox::Sandbox;
use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;
use tokio::time::Instant;

use crate::lent::Lent;

/// Between two notifications of progress. Our own pace: nothing outside depends on it.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// One call of a tool.
pub(crate) struct Call<'a> {
    pub(crate) lender: &'a Lent,
    pub(crate) context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    /// Waits for `work`, and tells a client that wants to know how it goes on.
    pub(crate) async fn with_progress<T>(
        &self,
        work: impl Future<Output = T>,
        printed: impl Fn() -> u64,
    ) -> T {
        self.telling(work, || format!("running, {} bytes printed", printed())).await
    }

    /// The same for a start that may have to wait.
    pub(crate) async fn with_place<T>(&self, start: impl Future<Output = T>) -> T {
        self.telling(start, || "waiting for one of the programs that run to end".to_owned()).await
    }

    /// Whether the client asks for results by itself.
    pub(crate) fn has_tasks(&self) -> bool {
        self.context.client_capabilities().is_some_and(|client| client.supports_tasks())
    }

    async fn telling<T>(&self, work: impl Future<Output = T>, words: impl Fn() -> String) -> T {
        let Some(token) = self.context.meta.get_progress_token() else { return work.await };
        let begun = Instant::now();
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval_at(begun + PROGRESS_PAUSE, PROGRESS_PAUSE);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let progress = ProgressNotificationParam::new(token.clone(), begun.elapsed().as_secs_f64());
                    // A client that is gone is noticed elsewhere.
                    let _ = self.context.peer.notify_progress(progress.with_message(words())).await;
                }
            }
        }
    }
}

/// A program that a tool runs for itself, with the variables of the server.
pub(crate) fn program(argv: Vec<String>, cwd: PathBuf, sandbox: Option<Sandbox>) -> StartParams {
    StartParams {
        env_policy: Some(EnvPolicy::inherit_all()),
        sandbox,
        ..StartParams::new(ProcessId::default(), argv, cwd)
    }
}
