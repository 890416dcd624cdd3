//! The processes of an environment: listed, started and signalled.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use codex_exec_server::protocol::process::SignalName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::refusal::Refusal;
use crate::access::Role;
use crate::app::App;
use crate::programs::{self, Place, Wanted};

/// A terminal's size where the page names none, rows before columns.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Environment, session and process, as a path names them.
pub(super) type Named = (String, String, String);

/// The environment and the process of a path, if the caller may act on it in this role.
pub(super) fn place(
    caller: &Caller,
    (environment, session, process): Named,
    role: Role,
) -> Result<(String, Place), Refusal> {
    caller.sees(&environment, &session, &process, role)?;
    Ok((environment, Place { session: session.into(), process: process.into() }))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
) -> Result<Json<Value>, Refusal> {
    caller.reaches(&environment)?;
    let client = programs::client(&app.environments, &environment).await?;
    let mut all = programs::list(&client).await?;
    all.retain(|info| {
        let session = info.session_id.as_deref().unwrap_or_default();
        caller.0.sees(&environment, session, &info.process_id)
    });
    Ok(Json(json!({"processes": all})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    command: Option<String>,
    cwd: Option<String>,
    name: Option<String>,
    #[serde(default)]
    tty: bool,
    rows: Option<u16>,
    cols: Option<u16>,
}

pub(super) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
    body: Result<Json<Start>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.covers(&environment, Role::Type, "to start programs there")?;
    let Json(start) = body?;
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let command = given(start.command);
    // A shell without a terminal would have no input.
    let tty = start.tty || command.is_none();
    let size = (start.rows.unwrap_or(USUAL_SIZE.0).max(1), start.cols.unwrap_or(USUAL_SIZE.1).max(1));
    let wanted =
        Wanted { command, cwd: given(start.cwd), name: given(start.name), terminal: tty.then_some(size) };
    let client = programs::client(&app.environments, &environment).await?;
    let place = programs::start(&client, wanted).await?;
    Ok(Json(json!({"sessionId": place.session, "processId": place.process})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    signal: Wish,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wish {
    Signal(SignalName),
    Other(End),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    /// Ends the program with its tree, by SIGTERM first.
    End,
}

pub(super) async fn signal(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<Named>,
    body: Result<Json<Asked>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let (environment, place) = place(&caller, named, Role::Type)?;
    let Json(Asked { signal }) = body?;
    let client = programs::client(&app.environments, &environment).await?;
    match signal {
        Wish::Signal(signal) => programs::signal(&client, &place, signal).await?,
        Wish::Other(End::End) => programs::end(&client, &place).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}
