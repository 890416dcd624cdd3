//! Finds the account that a request comes from.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};

use super::refusal::Refusal;
use crate::accounts::Account;
use crate::app::App;
use crate::tokens::Role;

/// The account of a bearer who may look after the rendezvous.
///
/// # Errors
/// Without such a token.
pub(super) fn observer(app: &App, headers: &HeaderMap) -> Result<Account, Refusal> {
    let account = account(app, headers).ok_or_else(Refusal::unauthorized)?;
    if account.grant.is(Role::Observer) {
        return Ok(account);
    }
    let message = "this needs a token with the role observer";
    Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message))
}

/// The account of the bearer token that a request brings.
pub(super) fn account(app: &App, headers: &HeaderMap) -> Option<Account> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { app.accounts.by_token(token.trim()) } else { None }
}
