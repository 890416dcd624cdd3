//! The environments: how each stands, and what its machine is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use codex_exec_server::client::{Client, State as EnvironmentState};
use serde_json::{Value, json};

use super::caller::Caller;
use super::refusal::Refusal;
use crate::app::App;
use crate::programs;

/// How each stands. One that nobody has asked for yet is connected to.
pub(super) async fn list(State(app): State<Arc<App>>, Caller(grant): Caller) -> Json<Value> {
    let mut all = Vec::new();
    for name in app.environments.names().into_iter().filter(|name| grant.reaches(name)) {
        // It may be gone by now.
        let Ok(status) = app.environments.status(&name) else { continue };
        if status.state == EnvironmentState::Unknown && !status.paused {
            connect_soon(&app, &name);
        }
        all.push(json!({
            "name": name, "state": status.state.word(), "paused": status.paused, "reason": status.reason,
        }));
    }
    Json(json!({"environments": all}))
}

fn connect_soon(app: &Arc<App>, name: &str) {
    let (environments, name) = (app.environments.clone(), name.to_owned());
    tokio::spawn(async move {
        // What comes of it stands in the environment's state.
        let _ = environments.client(&name).await;
    });
}

/// What its machine is; connects to it now, if there is no connection.
pub(super) async fn describe(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
) -> Result<Json<Value>, Refusal> {
    caller.reaches(&environment)?;
    let client = programs::client(&app.environments, &environment).await?;
    machine(&client).await.map(Json)
}

async fn machine(client: &Client) -> Result<Value, Refusal> {
    let info = programs::info(client).await?;
    Ok(json!({
        "version": info.executor_version, "os": info.platform_os, "shell": info.shell.path,
        "cwd": info.cwd, "home": info.user_home_dir, "keepsPrograms": info.capabilities.detached_sessions,
        "keepsLogs": info.capabilities.disk_logs, "forwards": info.capabilities.tcp_streams,
        "uploads": info.capabilities.file_transfer,
    }))
}
