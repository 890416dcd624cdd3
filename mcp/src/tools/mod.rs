//! The tools, each with its arguments and its work.

mod exec;
mod fetch;
mod files;
mod search;

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use codex_exec_protocol::ProcessId;
use codex_exec_protocol::path::{LocalPath, WirePath};
use codex_exec_protocol::process::{EnvInherit, EnvPolicy, StartParams};
use codex_exec_protocol::sandbox::Sandbox;
use rmcp::RoleServer;
use rmcp::model::{JsonObject, ProgressNotificationParam};
use rmcp::service::RequestContext;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::outcome::{Outcome, Refused};
use crate::server::Lent;

/// Between two notifications of progress. Our own pace: nothing outside depends on it.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// One call of a tool.
pub(crate) struct Call<'a> {
    pub(crate) lender: &'a Lent,
    pub(crate) context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    /// Waits for `work`, and tells a client that wants to know how it goes on.
    async fn with_progress<T>(&self, work: impl Future<Output = T>, printed: impl Fn() -> u64) -> T {
        let Some(token) = self.context.meta.get_progress_token() else { return work.await };
        let begun = Instant::now();
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval_at((begun + PROGRESS_PAUSE).into(), PROGRESS_PAUSE);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let message = format!("running, {} bytes printed", printed());
                    let progress = ProgressNotificationParam::new(token.clone(), begun.elapsed().as_secs_f64());
                    // A client that is gone is noticed elsewhere.
                    let _ = self.context.peer.notify_progress(progress.with_message(message)).await;
                }
            }
        }
    }
}

/// Does what a call asks for; none for a tool that there is not.
pub(crate) async fn run(
    call: &Call<'_>,
    name: &str,
    arguments: JsonObject,
) -> Option<Result<Outcome, Refused>> {
    macro_rules! with {
        ($work:path) => {
            match decode(name, arguments) {
                Ok(arguments) => $work(call, arguments).await,
                Err(refused) => Err(refused),
            }
        };
    }
    Some(match name {
        "exec" => with!(exec::exec),
        "exec_read" => with!(exec::exec_read),
        "exec_write" => with!(exec::exec_write),
        "exec_signal" => with!(exec::exec_signal),
        "exec_list" => with!(exec::exec_list),
        "read" => with!(files::read),
        "write" => with!(files::write),
        "edit" => with!(files::edit),
        "list" => with!(search::list),
        "glob" => with!(search::glob),
        "grep" => with!(search::grep),
        "fetch" => with!(fetch::fetch),
        "environments" => with!(environments),
        _ => return None,
    })
}

fn decode<A: DeserializeOwned>(name: &str, arguments: JsonObject) -> Result<A, Refused> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| {
        // It may repeat what was given, at any length.
        let why: String = error.to_string().chars().take(400).collect();
        Refused(format!("the arguments of {name} are not as its schema says: {why}"))
    })
}

/// A program that a tool runs for itself, with the variables of the server.
fn program(argv: Vec<String>, cwd: PathBuf, sandbox: Option<Sandbox>) -> StartParams {
    StartParams {
        process_id: ProcessId::default(),
        argv,
        cwd: LocalPath(cwd),
        env: Default::default(),
        tty: false,
        arg0: None,
        pipe_stdin: false,
        env_policy: Some(EnvPolicy {
            inherit: EnvInherit::All,
            ignore_default_excludes: true,
            exclude: Vec::new(),
            set: Default::default(),
            include_only: Vec::new(),
        }),
        sandbox,
        enforce_managed_network: false,
        managed_network: None,
        network_proxy: None,
        shell_snapshot: None,
        metadata: None,
        rows: None,
        cols: None,
        real_terminal: false,
        timeout_ms: None,
        idle_timeout_ms: None,
        login_environment: None,
        limits: None,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentsArgs {}

/// Which environments there are, and what confines the tools there. Connects to none.
async fn environments(call: &Call<'_>, _: EnvironmentsArgs) -> Result<Outcome, Refused> {
    let confinement = &call.lender.confinement;
    let (mut text, mut all) = (String::new(), Vec::new());
    for (index, (name, there)) in call.lender.environments.known().await.into_iter().enumerate() {
        let default = index == 0;
        let info = there.as_ref().and_then(|there| there.info.as_ref());
        let cwd = there.as_ref().and_then(|there| confinement.base(there).ok());
        let path = |path: &Option<WirePath>| match path {
            Some(WirePath::Local(path)) => Some(path.clone()),
            _ => None,
        };
        text.push_str(name);
        text.push_str(if default { " (default)" } else { "" });
        text.push_str(if there.is_some() { ": connected" } else { ": not connected yet" });
        if let Some(cwd) = &cwd {
            text.push_str(&format!(", paths begin at {}", cwd.display()));
        }
        text.push('\n');
        all.push(json!({
            "name": name, "default": default, "connected": there.is_some(), "cwd": cwd,
            "os": info.and_then(|info| info.platform_os.clone()), "shell": info.map(|info| info.shell.path.clone()),
            "home": info.and_then(|info| path(&info.user_home_dir)),
        }));
    }
    if !confinement.roots.is_empty() {
        let roots: Vec<_> = confinement.roots.iter().map(|root| root.display().to_string()).collect();
        text.push_str(&format!("Files are confined to {}\n", roots.join(", ")));
    }
    if confinement.permissions.is_some() {
        text.push_str("Programs and files are under a sandbox.\n");
    }
    let data = json!({
        "environments": all, "roots": confinement.roots, "sandbox": confinement.permissions.is_some(),
    });
    Ok(Outcome { text, data })
}
