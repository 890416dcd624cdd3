//! The websocket's upgrade: checks the ticket, takes the place in the switch, and starts the socket.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use codex_secret::Secret;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::bearer::account;
use super::refusal::Refusal;
use crate::accounts::Account;
use crate::app::App;
use crate::attach::{AttachFailure, Attachment};
use crate::clock::now;
use crate::ticket::{HarnessTicket, Wish};
use crate::tokens::Role;

/// Lets an executor or a harness in.
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    mut request: Request,
) -> Result<Response, Refusal> {
    let response = create_response_with_body(&request, Body::empty).map_err(|error| {
        Refusal::bad_request("not_a_websocket", format!("this address takes websocket upgrades: {error}"))
    })?;
    let wish = app.signer.read(query.as_deref().unwrap_or_default()).map_err(|reason| {
        let status =
            if reason == "invalid_signature" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        Refusal::upgrade(status, reason, "the query holds no good ticket; ask the registry for a new one")
    })?;
    let attachment = match wish {
        Wish::Executor { environment, registration, secret } => {
            executor(&app, &environment, &registration, secret.expose())?
        }
        Wish::Signed(ticket) => app.attach_signed(ticket).map_err(refuse)?,
        Wish::Harness(ticket) => harness(&app, &ticket)?,
        Wish::Plain { environment, token } => plain(&app, request.headers(), &environment, token)?,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let patience = app.limits.times.request_time;
    app.serve(attachment, async move {
        tokio::time::timeout(patience, upgraded).await.ok()?.ok().map(TokioIo::new)
    });
    Ok(response)
}

/// Any 4xx makes the executor register again; 5xx makes it come back with the same URL.
fn executor(app: &App, environment: &str, registration: &str, secret: &str) -> Result<Attachment, Refusal> {
    app.attach_executor(environment, registration, secret).map_err(refuse)
}

/// 401 makes a harness ask the registry once more.
fn harness(app: &App, ticket: &HarnessTicket) -> Result<Attachment, Refusal> {
    if ticket.expires <= now() {
        return Err(refuse(AttachFailure::Expired));
    }
    if ticket.node != app.directory.node() {
        return Err(refuse(AttachFailure::OtherNode));
    }
    let account = app.accounts.by_short(&ticket.account).ok_or_else(|| refuse(AttachFailure::Revoked))?;
    attach_harness(app, &ticket.environment, &ticket.registration, &account)
}

fn plain(
    app: &App,
    headers: &HeaderMap,
    environment: &str,
    token: Option<Secret>,
) -> Result<Attachment, Refusal> {
    if !app.allow_plain {
        let message = "plain relays are switched off here (--allow-plain); connect through the registry";
        return Err(Refusal::upgrade(StatusCode::FORBIDDEN, "missing_signature", message));
    }
    let account = match token {
        Some(token) => app.accounts.by_token(token.expose()),
        None => account(app, headers),
    };
    let account =
        account.ok_or_else(|| Refusal { rejection: Some("invalid_secret"), ..Refusal::unauthorized() })?;
    if !account.grant.allows(Role::Harness, environment) {
        return Err(Refusal { rejection: Some("invalid_role"), ..Refusal::forbidden("use", environment) });
    }
    let registration = app.plain_registration(environment).map_err(refuse)?;
    attach_harness(app, environment, &registration, &account)
}

fn attach_harness(
    app: &App,
    environment: &str,
    registration: &str,
    account: &Account,
) -> Result<Attachment, Refusal> {
    app.attach_harness(environment, registration, account).map_err(refuse)
}

fn refuse(failure: AttachFailure) -> Refusal {
    let unauthorized = |reason, message| Refusal::upgrade(StatusCode::UNAUTHORIZED, reason, message);
    match failure {
        AttachFailure::Forgotten => {
            let message = "this registration is not known here any more; register again";
            Refusal::upgrade(StatusCode::NOT_FOUND, "unknown_route", message)
        }
        AttachFailure::WrongSecret => unauthorized("invalid_secret", "the ticket is not the registration's"),
        AttachFailure::Revoked => {
            unauthorized("invalid_secret", "the token behind this ticket was withdrawn")
        }
        AttachFailure::Expired => {
            unauthorized("expired", "the ticket has expired; ask the registry for a new one")
        }
        AttachFailure::Superseded => unauthorized(
            "unexpected_executor_registration_id",
            "the executor has registered anew; ask the registry for a new ticket",
        ),
        AttachFailure::OtherNode => unauthorized(
            "wrong_rendezvous_cluster",
            "the ticket is for another node, or for this one before it was started anew; ask the registry for a new ticket",
        ),
        AttachFailure::Leaving => {
            unauthorized("pod_draining", "this node is ending; register again, and come to another one")
        }
        AttachFailure::NotPlain => {
            let message = "this environment is encrypted; connect through the registry";
            Refusal::upgrade(StatusCode::FORBIDDEN, "missing_signature", message)
        }
        AttachFailure::Away => {
            let message = "the executor of this environment is away for the moment";
            Refusal::upgrade(StatusCode::SERVICE_UNAVAILABLE, "route_unavailable", message)
        }
        AttachFailure::TooManyRequests => Refusal {
            retry_after: Some(Duration::from_secs(1)),
            ..Refusal::upgrade(
                StatusCode::SERVICE_UNAVAILABLE,
                "route_unavailable",
                "this token opens too many websockets; slow down",
            )
        },
        AttachFailure::TooManySockets => {
            let message = "this token has as many websockets as it may";
            Refusal::upgrade(StatusCode::TOO_MANY_REQUESTS, "route_unavailable", message)
        }
    }
}
