//! What programs have printed: pages of it, searches, and the whole as a file.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use codex_exec_server::client::ClientError;
use codex_exec_server::protocol::process::{ListLogs, ListLogsParams, ReadResult};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::download;
use super::caller::Caller;
use super::processes::{Named, place};
use super::refusal::Refusal;
use crate::access::Role;
use crate::app::App;
use crate::output::{self, Begin, Source, length};
use crate::programs;

/// Most bytes of one page. Chosen for speed.
const LARGEST_PAGE: u64 = 256 << 10;

/// A page of output: so many bytes from this one on, or else the last ones.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    from: Option<u64>,
    max: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Search {
    text: String,
    #[serde(default)]
    from: u64,
}

type PageQuery = Result<Query<Page>, QueryRejection>;
type SearchQuery = Result<Query<Search>, QueryRejection>;

fn of_place(caller: &Caller, named: Named) -> Result<(String, Source), Refusal> {
    let (environment, place) = place(caller, named, Role::Look)?;
    Ok((environment, Source::Process(place)))
}

fn of_disk(caller: &Caller, (environment, log): (String, String)) -> Result<(String, Source), Refusal> {
    caller.covers(&environment, Role::Look, "to read logs of ended programs")?;
    Ok((environment, Source::Log(log)))
}

pub(super) async fn of_process(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<Named>,
    page: PageQuery,
) -> Result<Json<Value>, Refusal> {
    read(&app, of_place(&caller, named)?, page?.0).await
}

pub(super) async fn of_log(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<(String, String)>,
    page: PageQuery,
) -> Result<Json<Value>, Refusal> {
    read(&app, of_disk(&caller, named)?, page?.0).await
}

async fn read(
    app: &App,
    (environment, source): (String, Source),
    page: Page,
) -> Result<Json<Value>, Refusal> {
    let client = programs::client(&app.environments, &environment).await?;
    let max = page.max.unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE);
    let from = match page.from {
        Some(from) => from,
        // Only an answer tells how much there is.
        None => {
            let probe = source.read(&client, Begin::Offset(0), 1, 0).await?;
            probe.totals.sum().saturating_sub(max)
        }
    };
    let mut read = source.read(&client, Begin::Offset(from), max, 0).await?;
    let mut next = read.next_offset.unwrap_or(from + length(&read));
    let begin = next.saturating_sub(length(&read));
    let mut pieces = described(&read);
    // Whole events are read: what is left behind them may be less than the last one of these.
    while page.from.is_none() && next < read.totals.sum() && next - begin < max {
        read = source.read(&client, Begin::Offset(next), max, 0).await?;
        if read.chunks.is_empty() {
            break;
        }
        next = read.next_offset.unwrap_or(next + length(&read));
        pieces.extend(described(&read));
    }
    Ok(Json(json!({
        "begin": begin, "next": next, "total": read.totals.sum(), "pieces": pieces, "lost": read.lost_bytes,
        "over": read.closed, "failure": read.failure, "exitCode": read.exit_code, "exit": read.exit,
    })))
}

fn described(read: &ReadResult) -> Vec<Value> {
    read.chunks.iter().map(|chunk| json!({"stream": chunk.stream, "bytes": chunk.chunk})).collect()
}

pub(super) async fn search_process(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<Named>,
    search: SearchQuery,
) -> Result<Json<output::Found>, Refusal> {
    find(&app, of_place(&caller, named)?, search?.0).await
}

pub(super) async fn search_log(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<(String, String)>,
    search: SearchQuery,
) -> Result<Json<output::Found>, Refusal> {
    find(&app, of_disk(&caller, named)?, search?.0).await
}

async fn find(
    app: &App,
    (environment, source): (String, Source),
    search: Search,
) -> Result<Json<output::Found>, Refusal> {
    let client = programs::client(&app.environments, &environment).await?;
    Ok(Json(output::search(&client, &source, &search.text, search.from, &app.limits).await?))
}

pub(super) async fn download_process(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<Named>,
) -> Result<Response, Refusal> {
    let name = format!("{}.log", named.2);
    let (environment, source) = of_place(&caller, named)?;
    let client = programs::client(&app.environments, &environment).await?;
    Ok(download(&name, output::whole(client, source, LARGEST_PAGE), caller.0))
}

pub(super) async fn download_log(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let name = format!("{}.log", named.1);
    let (environment, source) = of_disk(&caller, named)?;
    let client = programs::client(&app.environments, &environment).await?;
    Ok(download(&name, output::whole(client, source, LARGEST_PAGE), caller.0))
}

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<u64>,
}

/// The logs that are kept on the environment's disk, a page of them.
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
    before: Result<Query<Before>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.covers(&environment, Role::Look, "to read logs of ended programs")?;
    let Query(Before { before }) = before?;
    let client = programs::client(&app.environments, &environment).await?;
    match client.call::<ListLogs>(&ListLogsParams { before, limit: None }).await {
        Ok(page) => Ok(Json(json!(page))),
        // It keeps none.
        Err(ClientError::Rpc(_)) => Ok(Json(json!({"logs": [], "next": null}))),
        Err(error) => Err(error.into()),
    }
}
