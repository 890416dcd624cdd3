//! Signing in with a link's key, and out.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use codex_secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::refusal::Refusal;
use crate::access::Grant;
use crate::app::App;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    key: Secret,
}

/// What the page has to know of who is signed in.
fn described(grant: &Grant) -> Value {
    let left = grant.expires.saturating_duration_since(Instant::now());
    json!({"id": grant.id, "name": grant.name, "role": grant.role, "scope": grant.scope, "secondsLeft": left.as_secs()})
}

pub(super) async fn who(Caller(grant): Caller) -> Json<Value> {
    Json(described(&grant))
}

/// Exchanges a link's key for a session, once.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(SignIn { key }) = body?;
    let now = Instant::now();
    let Some((session, grant)) = app.access.exchange(key.expose(), now) else {
        let message =
            "this link is good no longer: it was used, has expired or was revoked; ask for another one";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "used_link", message));
    };
    tracing::info!(link = grant.id, role = ?grant.role, "signed in");
    let cookie = app.site.cookie(Some(&session), grant.expires.saturating_duration_since(now));
    Ok(with_cookie(Json(described(&grant)).into_response(), &cookie))
}

pub(super) async fn sign_out(State(app): State<Arc<App>>, Caller(grant): Caller) -> Response {
    app.access.revoke(grant.id);
    with_cookie(StatusCode::NO_CONTENT.into_response(), &app.site.cookie(None, Default::default()))
}

fn with_cookie(mut answer: Response, cookie: &Secret) -> Response {
    if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
        value.set_sensitive(true);
        answer.headers_mut().insert(SET_COOKIE, value);
    }
    answer
}
