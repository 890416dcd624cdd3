//! The HTTP surface: the registry's calls, the websocket's upgrade, and the operator's requests.

mod bearer;
mod refusal;
mod registry;
mod status;
mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::app::App;
use crate::cluster::Health;
use crate::limits::BODY_BYTES;
use crate::ticket;
use bearer::observer;
use refusal::{Refusal, Refused};

/// Everything the rendezvous answers.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/cloud/executor/{id}/register", post(registry::register_executor))
        .route("/cloud/environment/{id}/register", post(registry::register_environment))
        .route("/cloud/environment/{id}/connect", post(registry::connect))
        .route("/cloud/environment/{id}/validate", post(registry::validate))
        .route(ticket::PATH, get(upgrade::upgrade))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(crate::status::PATH, get(status::status))
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

/// Applies to every request: refuses browsers, bounds the time, counts refusals.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let answer = async {
        if request.headers().contains_key(ORIGIN) {
            let message = "requests from web pages (with an Origin header) are not answered";
            return Refusal::new(StatusCode::FORBIDDEN, "origin", message).into_response();
        }
        if app.is_draining() {
            return Refusal::draining(&path).into_response();
        }
        next.run(request).await
    };
    let answer = tokio::time::timeout(app.limits.times.request_time, answer).await.unwrap_or_else(|_| {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long to arrive")
            .into_response()
    });
    if let Some(Refused(reason)) = answer.extensions().get() {
        app.metrics.refused(reason);
        // The path holds an environment's id at most; tickets are in the query.
        tracing::info!(%path, status = answer.status().as_u16(), reason, "refused");
    }
    answer
}

async fn unknown_route() -> Refusal {
    let message = "no such route; this registry speaks the contracts of `codex exec-server --remote URL \
                   --environment-id ID` and, with --allow-plain, those of plain relays";
    Refusal::upgrade(StatusCode::NOT_FOUND, "unknown_route", message)
}

/// Whether callers may be sent here. A node without its broker is still of use.
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    if app.is_leaving() {
        return Err(Refusal::draining("/readyz"));
    }
    Ok(match app.directory.health() {
        Health::Alone => "",
        Health::Connected => "ready\n",
        Health::Degraded => "degraded: the cluster's broker can't be reached; this node serves what it has\n",
    })
}

async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    if !app.open_metrics {
        observer(&app, &headers)?;
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], app.metrics.encode(app.levels(), app.standing())).into_response())
}
