//! The websocket of a live terminal.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use codex_exec_server::protocol::Seq;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role as Side, WebSocketConfig};

use super::caller::Caller;
use super::processes::{Named, place};
use super::refusal::Refusal;
use crate::access::Role;
use crate::app::App;
use crate::terminal::{Cursor, LONGEST_MESSAGE, Terminal};

/// Where the page goes on after a loss.
#[derive(Deserialize)]
pub(super) struct From {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    offset: u64,
}

pub(super) async fn open(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(named): Path<Named>,
    from: Result<Query<From>, QueryRejection>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let (environment, place) = place(&caller, named, Role::Look)?;
    let Query(From { after, offset }) = from?;
    let answer = create_response_with_body(&request, Body::empty)
        .map_err(|error| Refusal::wrong(format!("this address takes websocket upgrades: {error}")))?;
    let Ok(open) = Arc::clone(&app.terminals).try_acquire_owned() else {
        let most = app.limits.terminals;
        let message = format!("{most} terminals are open already, in all windows; close one first");
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_terminals", message));
    };
    let terminal = Terminal {
        environments: app.environments.clone(),
        environment,
        place,
        limits: app.limits.clone(),
        grant: caller.0,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let patience = app.limits.request_time;
    tokio::spawn(async move {
        let Ok(Ok(upgraded)) = tokio::time::timeout(patience, upgraded).await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST_MESSAGE))
            .max_frame_size(Some(LONGEST_MESSAGE))
            .read_buffer_size(LONGEST_MESSAGE / 4)
            .write_buffer_size(0);
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Side::Server, Some(config)).await;
        terminal.serve(socket, Cursor { after: Seq(after), offset }).await;
        drop(open);
    });
    Ok(answer)
}
