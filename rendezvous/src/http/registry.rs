//! Register, connect and validate (`remote.md` 3, 6 and 10).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use codex_exec_protocol::ids::{EnvironmentId, NoEnvironmentId};
use codex_exec_protocol::registry::{
    Connect, Connected, EnvironmentRegistered, ExecutorRegistered, NOISE_PROFILE, NoiseRegister,
    NoiseRegistered, PublicKey, Validate, Validated,
};
use codex_secret::Secret;
use serde::de::DeserializeOwned;

use super::bearer::account;
use super::refusal::Refusal;
use crate::accounts::Account;
use crate::app::{App, RegisterFailure, Way};
use crate::registry::{NoOffer, Presented};
use crate::tokens::Role;

type Body = Result<Bytes, BytesRejection>;

/// Contracts C and C'.
pub(super) async fn register_executor(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let account = registering(&app, &headers, &id)?;
    if !body?.trim_ascii().is_empty() {
        let message = "registrations with a body (contract B, direct JSON-RPC) are not served here; \
                       use an executor of release 0.131 or later";
        return Err(Refusal::bad_request("unsupported_contract", message));
    }
    let url = register(&app, &headers, &account, &id, None).await?.0;
    Ok(Json(ExecutorRegistered { executor_id: id, url }).into_response())
}

/// Contract D without a body, contract E with one.
pub(super) async fn register_environment(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let account = registering(&app, &headers, &id)?;
    let body = body?;
    if body.trim_ascii().is_empty() {
        let url = register(&app, &headers, &account, &id, None).await?.0;
        return Ok(Json(EnvironmentRegistered { environment_id: id, url }).into_response());
    }
    let request: NoiseRegister = parse(&body)?;
    if request.security_profile != NOISE_PROFILE {
        let message = format!("the only security profile is {NOISE_PROFILE}");
        return Err(Refusal::bad_request("unsupported_security_profile", message));
    }
    let key = Some(request.executor_public_key);
    let (url, executor_registration_id) = register(&app, &headers, &account, &id, key).await?;
    let security_profile = NOISE_PROFILE.to_owned();
    Ok(Json(NoiseRegistered { environment_id: id, url, security_profile, executor_registration_id })
        .into_response())
}

/// The account that may register here.
fn registering(app: &App, headers: &HeaderMap, id: &str) -> Result<Account, Refusal> {
    let account = authorize(app, headers, Role::Executor, id)?;
    account.usage.request().map_err(|_| {
        Refusal::try_registering_again("this token makes too many requests; trying again later helps")
    })?;
    Ok(account)
}

async fn register(
    app: &App,
    headers: &HeaderMap,
    account: &Account,
    id: &str,
    key: Option<PublicKey>,
) -> Result<(Secret, String), Refusal> {
    if key.is_none() && !app.allow_plain {
        let message = "plain relays show everything to this rendezvous and are switched off; register with a key \
                       (codex exec-server --remote URL --environment-id ID), or have --allow-plain set";
        return Err(Refusal::bad_request("plain_relay_not_allowed", message));
    }
    let registered = app.register(id, key, account).await.map_err(|failure| match failure {
        RegisterFailure::TooMany => {
            let message = "this token has as many environments in use as it may";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_environments", message)
        }
        RegisterFailure::Busy => Refusal::try_registering_again("too many registrations at once"),
    })?;
    let query = app.executor_query(&registered);
    // Where all nodes have one name, that leads away from this one by itself.
    let elsewhere = if app.is_leaving() && app.public_url.is_none() { app.directory.another() } else { None };
    Ok((Secret::new(app.websocket_url(headers, elsewhere, &query)), registered.record.registration))
}

/// The harness's way in.
pub(super) async fn connect(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Connected>, Refusal> {
    let account = authorize(&app, &headers, Role::Harness, &id)?;
    account.usage.request().map_err(Refusal::too_many_requests)?;
    let request: Connect = parse(&body?)?;
    let way = app.connect(&id, &request.harness_public_key).await.map_err(|reason| match reason {
        NoOffer::Unknown => {
            let message = format!("environment {id} is not registered");
            Refusal::new(StatusCode::NOT_FOUND, "environment_not_found", message)
        }
        NoOffer::Away => {
            let message = format!("the executor of environment {id} is away for the moment");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_online_executor", message)
        }
        NoOffer::Plain => {
            let message = format!(
                "environment {id} is a plain relay without a key; connect to its websocket with role=harness"
            );
            Refusal::new(StatusCode::CONFLICT, "plain_relay", message)
        }
    })?;
    tracing::info!(environment = %id, registration = %way.offer.registration, token = %account.grant.hash.short(), "offered");
    let query = app.harness_query(&id, &way, &account);
    let Way { offer, url, .. } = way;
    Ok(Json(Connected {
        url: Secret::new(app.websocket_url(&headers, url, &query)),
        environment_id: id,
        security_profile: NOISE_PROFILE.to_owned(),
        executor_registration_id: offer.registration,
        executor_public_key: offer.key,
        harness_key_authorization: offer.authorization,
    }))
}

/// The executor's question. Answered with 200 whatever comes; 401 is kept for the executor's own credential,
/// which executors tell their harness of.
pub(super) async fn validate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Validated>, Refusal> {
    let account = authorize(&app, &headers, Role::Executor, &id).map_err(|refusal| match refusal.status {
        StatusCode::FORBIDDEN => Refusal { status: StatusCode::UNAUTHORIZED, ..refusal },
        _ => refusal,
    })?;
    account.usage.request().map_err(Refusal::too_many_requests)?;
    let request = serde_json::from_slice::<Validate>(&body?).ok();
    let valid = match &request {
        None => false,
        Some(request) => {
            app.validate(Presented {
                environment: &id,
                registration: &request.executor_registration_id,
                harness: &request.harness_public_key,
                authorization: request.harness_key_authorization.expose(),
            })
            .await
        }
    };
    if !valid {
        app.metrics.refused("invalid_authorization");
    }
    tracing::info!(environment = %id, valid, "validated");
    Ok(Json(Validated { valid }))
}

/// Checks that the bearer may act in this role for this environment.
fn authorize(app: &App, headers: &HeaderMap, role: Role, id: &str) -> Result<Account, Refusal> {
    let account = account(app, headers).ok_or_else(Refusal::unauthorized)?;
    if !EnvironmentId::fits(id) {
        return Err(Refusal::bad_request("invalid_id", format!("the id can't be used: {NoEnvironmentId}")));
    }
    if !account.grant.allows(role, id) {
        let what = if role == Role::Executor { "serve" } else { "use" };
        return Err(Refusal::forbidden(what, id));
    }
    Ok(account)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request("invalid_request", format!("the body is not what this call takes: {error}"))
    })
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("the body has more than {} bytes", crate::limits::BODY_BYTES);
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
            }
            _ => Self::bad_request("invalid_request", "the body did not arrive"),
        }
    }
}
