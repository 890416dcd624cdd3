//! Finds the account that a request comes from.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::accounts::Account;
use crate::app::App;

/// The account of the bearer token that a request brings.
pub(super) fn account(app: &App, headers: &HeaderMap) -> Option<Account> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { app.accounts.by_token(token.trim()) } else { None }
}
