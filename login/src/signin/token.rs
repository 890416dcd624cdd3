//! What a sign-in reads from the tokens it got: may this account sign in, and what the last page is told.

use serde_json::{Map, Value};
use url::form_urlencoded;

use super::{Failure, Issuer, SignedIn};
use crate::claims::{self, AUTH_CLAIM, IdClaims};
use crate::refresh::DEFAULT_ISSUER;

/// Reads the id token, once its account is one of the allowed. An unreadable token has no account.
pub(super) fn check(signed_in: &SignedIn, workspaces: Option<&[String]>) -> Result<IdClaims, Failure> {
    let claims = IdClaims::read(signed_in.id_token.expose());
    if let Some(allowed) = workspaces {
        let account = claims.as_ref().ok().and_then(|claims| claims.account_id.as_ref());
        if !account.is_some_and(|account| allowed.contains(account)) {
            return Err(Failure::Workspace(allowed.to_vec()));
        }
    }
    claims.map_err(|error| Failure::Persist(error.to_string()))
}

/// The query of `/success` (login.md 8.4). The id token is left out: nothing reads it there, and URLs end up in histories.
pub(super) fn success_query(signed_in: &SignedIn, issuer: &Issuer) -> String {
    let auth = auth_object(signed_in.id_token.expose());
    let access = auth_object(signed_in.access_token.expose());
    let text =
        |claims: &Map<String, Value>, name| claims.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let yes = |name| auth.get(name).and_then(Value::as_bool).unwrap_or(false);
    let needs_setup = !yes("completed_platform_onboarding") && yes("is_org_owner");
    let platform = if issuer.base() == DEFAULT_ISSUER {
        "https://platform.openai.com"
    } else {
        "https://platform.api.openai.org"
    };
    form_urlencoded::Serializer::new(String::new())
        .append_pair("needs_setup", if needs_setup { "true" } else { "false" })
        .append_pair("org_id", &text(&auth, "organization_id"))
        .append_pair("project_id", &text(&auth, "project_id"))
        .append_pair("plan_type", &text(&access, "chatgpt_plan_type"))
        .append_pair("platform_url", platform)
        .finish()
}

/// The account claims of a token; empty when it has none or is opaque.
fn auth_object(token: &str) -> Map<String, Value> {
    match claims::payload(token).ok().and_then(|mut payload| payload.remove(AUTH_CLAIM)) {
        Some(Value::Object(claims)) => claims,
        _ => Map::new(),
    }
}
