//! The HTTP surface: the registry's calls, the websocket's upgrade, and the operator's requests.

mod bearer;
mod refusal;
mod registry;
mod status;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use codex_observe::{NoRoom, Place, figures};

use crate::accounts::Account;
use crate::app::App;
use crate::audit::{Asked, Record};
use crate::cluster::Health;
use crate::limits::BODY_BYTES;
use crate::ticket;
use bearer::{account, observer};
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
    let recording = match Recording::begin(&app, &path, &request) {
        Ok(recording) => recording,
        Err(error) => return without_record(&path, error).into_response(),
    };
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
    if let Some(recording) = recording {
        recording.end(&answer);
    }
    answer
}

/// A request that is to be recorded.
struct Recording {
    asked: Asked,
    since: Instant,
    account: Option<Account>,
    place: Place<Record>,
}

impl Recording {
    /// None without an audit file, for what is no act, and for one that is only counted.
    fn begin(app: &App, path: &str, request: &Request) -> Result<Option<Self>, NoRoom> {
        let Some(audit) = &app.audit else { return Ok(None) };
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let Some(asked) = Asked::of(path, peer) else { return Ok(None) };
        let since = Instant::now();
        let account = || account(app, request.headers());
        Ok(audit.claim()?.map(|place| Self { asked, since, account: account(), place }))
    }

    fn end(self, answer: &Response) {
        let Self { asked, since, account, place } = self;
        let refused = answer.extensions().get().map(|Refused(reason)| *reason);
        let grant = account.as_ref().map(|account| &*account.grant);
        place.fill(Record::request(asked, grant, answer.status().as_u16(), refused, since.elapsed()));
    }
}

/// Nothing is done that can't be recorded.
fn without_record(path: &str, error: NoRoom) -> Refusal {
    match path.ends_with("/register") {
        true => Refusal::try_registering_again(error.to_string()),
        false => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_audit", error.to_string()),
    }
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
    let text = app.metrics.encode(app.levels(), app.standing());
    Ok(([(CONTENT_TYPE, figures::CONTENT_TYPE)], text).into_response())
}
