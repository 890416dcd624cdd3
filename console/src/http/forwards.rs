//! Ports of environments, made reachable on the console's machine by its owner.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::refusal::Refusal;
use crate::app::App;
use crate::forwards::{Listed, Target};
use crate::programs;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wanted {
    environment: String,
    host: Option<String>,
    port: u16,
    #[serde(default)]
    local_port: u16,
}

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.owns("to see forwards")?;
    Ok(Json(json!({"forwards": app.forwards.list()})))
}

pub(super) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Listed>, Refusal> {
    caller.owns("to forward ports")?;
    let Json(Wanted { environment, host, port, local_port }) = body?;
    if port == 0 {
        return Err(Refusal::wrong("a port there is 1 to 65535"));
    }
    let client = programs::client(&app.environments, &environment).await?;
    if !programs::info(&client).await?.capabilities.tcp_streams {
        return Err(Refusal::wrong("this exec-server can't make connections; a newer one can"));
    }
    let host = host.filter(|host| !host.trim().is_empty()).unwrap_or_else(|| "127.0.0.1".into());
    let target = Target { environment, host, port };
    Ok(Json(app.forwards.start(app.environments.clone(), target, local_port).await?))
}

pub(super) async fn stop(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<StatusCode, Refusal> {
    caller.owns("to stop forwards")?;
    match app.forwards.stop(id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::not_found(format!("there is no forward {id} any more"))),
    }
}
