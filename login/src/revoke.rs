//! Revocation: tells the issuer that tokens are not used any more (login.md 10).

use crate::client::{ClientError, HttpClient};
use crate::credentials::{Provenance, StoredCredentials};
use crate::http_error;
use crate::refresh::{DEFAULT_CLIENT_ID, DEFAULT_ISSUER};
use crate::variables::Variables;
use codex_secret::SignInKind;
use serde::Serialize;
use std::time::Duration;
use url::Url;

/// The longest time that a sign-out waits for the issuer.
const TIMEOUT: Duration = Duration::from_secs(10);
const PATH: &str = "/oauth/revoke";

/// Why the issuer may not know that the tokens are not used any more. A sign-out only logs it.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The HTTP client could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The service did not answer.
    #[error("no answer to the revocation: {0}")]
    Request(String),
    /// The service answered with an error.
    #[error("the revocation was answered with status {0}")]
    Status(reqwest::StatusCode),
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    token: &'a str,
    token_type_hint: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

/// Revokes the tokens of a ChatGPT sign-in. Other credentials, and those without tokens, need no request.
pub async fn revoke(
    client: &HttpClient,
    variables: &Variables,
    credentials: &StoredCredentials,
) -> Result<(), RevokeError> {
    let Some(body) = body(variables, credentials) else { return Ok(()) };
    client.prepare().await?;
    let request = client
        .plain()?
        .post(address(variables))
        .headers(client.named_headers()?)
        .timeout(TIMEOUT)
        .json(&body);
    let answer = request.send().await.map_err(|error| RevokeError::Request(http_error::cause(error)))?;
    if answer.status().is_success() { Ok(()) } else { Err(RevokeError::Status(answer.status())) }
}

fn body<'a>(variables: &'a Variables, credentials: &'a StoredCredentials) -> Option<Body<'a>> {
    let tokens = if credentials.kind() == SignInKind::Chatgpt { credentials.tokens()? } else { return None };
    let client_id = tokens.provenance().map(|Provenance { client_id, .. }| client_id);
    let client_id = client_id.or(variables.client_id.as_ref()).map_or(DEFAULT_CLIENT_ID, String::as_str);
    let (refresh, access) = (tokens.refresh_token().expose(), tokens.access_token().expose());
    if !refresh.is_empty() {
        Some(Body { token: refresh, token_type_hint: "refresh_token", client_id: Some(client_id) })
    } else if !access.is_empty() {
        Some(Body { token: access, token_type_hint: "access_token", client_id: None })
    } else {
        None
    }
}

fn address(variables: &Variables) -> String {
    if let Some(url) = &variables.revoke_url {
        return url.clone();
    }
    if let Some(mut url) = variables.refresh_url.as_deref().and_then(|url| Url::parse(url).ok()) {
        url.set_path(PATH);
        url.set_query(None);
        return url.into();
    }
    format!("{DEFAULT_ISSUER}{PATH}")
}

#[cfg(test)]
mod tests;
