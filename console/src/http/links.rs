//! Further links: made, listed and revoked by the owner.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::refusal::Refusal;
use crate::access::{Grant, Role, Scope, Wish};
use crate::app::App;

/// Longest name of a link, in characters. A safeguard, far from any real use.
const LONGEST_NAME: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    name: String,
    role: Role,
    scope: Scope,
    seconds: u64,
}

fn described(grant: &Grant, used: bool) -> Value {
    let left = grant.expires.saturating_duration_since(Instant::now());
    json!({
        "id": grant.id, "name": grant.name, "role": grant.role, "scope": grant.scope,
        "secondsLeft": left.as_secs(), "used": used,
    })
}

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.owns("to see the links")?;
    let all = app.access.list(Instant::now());
    let links: Vec<Value> = all.iter().map(|listed| described(&listed.grant, listed.used)).collect();
    Ok(Json(json!({"links": links, "yours": caller.0.id})))
}

pub(super) async fn make(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.owns("to make links")?;
    let Json(Wanted { name, role, scope, seconds }) = body?;
    let (life, longest) = (Duration::from_secs(seconds), app.limits.longest_link_life);
    if life.is_zero() || life > longest {
        let days = longest.as_secs() / 86_400;
        return Err(Refusal::wrong(format!(
            "a link is good for 1 second to {days} days, not {seconds} seconds"
        )));
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(Refusal::wrong(format!("a link's name has {LONGEST_NAME} characters at most")));
    }
    if role == Role::Own && scope != Scope::All {
        return Err(Refusal::wrong("an owner's link is for everything"));
    }
    let (key, grant) = app.access.link(Wish { name, role, scope, life }, Instant::now())?;
    tracing::info!(link = grant.id, role = ?grant.role, by = caller.0.id, "a link was made");
    let mut told = described(&grant, false);
    told["url"] = app.site.link(&key).expose().into();
    Ok(Json(told))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<StatusCode, Refusal> {
    caller.owns("to revoke links")?;
    match app.access.revoke(id) {
        true => {
            tracing::info!(link = id, by = caller.0.id, "revoked");
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Refusal::not_found(format!("there is no link {id} that is still good"))),
    }
}
