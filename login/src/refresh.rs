//! When tokens are due, and how an issuer is asked for new ones (login.md 7.1 to 7.3).

use crate::auth::Auth;
use crate::client::HttpClient;
use crate::credentials::{Provenance, Tokens};
use crate::http_error;
use crate::variables::Variables;
use codex_outgoing::is_loopback;
use codex_secret::Secret;
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// The client that released programs sign in as.
pub const DEFAULT_CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// The issuer that released programs sign in with.
pub const DEFAULT_ISSUER: &str = "https://auth.openai.com";
/// How long before its end an access token is renewed.
const AHEAD_OF_EXPIRY: SignedDuration = SignedDuration::from_mins(5);
/// How old tokens without a readable end may become. Fixed by the wire.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Why a refresh is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshReason {
    /// The access token ends soon.
    ProactiveExpiry,
    /// The tokens are old.
    Scheduled,
    /// The service refused the access token, or the user wants it.
    Forced,
}

/// Why a refresh did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The sign-in is over; asking again is of no use.
    #[error("{0}")]
    Permanent(PermanentFailure),
    /// It may work later.
    #[error("The sign-in could not be refreshed: {cause}. Try again later.")]
    Transient {
        /// The answer's status, when there was an answer.
        status: Option<u16>,
        /// What went wrong; holds no secret.
        cause: String,
    },
    /// Only a ChatGPT sign-in that this program manages can be refreshed.
    #[error("Only a ChatGPT sign-in can be refreshed. Sign in with `codex login`.")]
    NotRefreshable,
}

/// Why a sign-in is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PermanentFailure {
    /// The refresh token's time is up.
    #[error("Your sign-in has expired: its refresh token is too old. Log out and sign in again.")]
    Expired,
    /// Another program has used the refresh token.
    #[error("Your sign-in can't be renewed: its refresh token was already used. Log out and sign in again.")]
    AlreadyUsed,
    /// The refresh token was withdrawn.
    #[error("Your sign-in was ended: its refresh token has been revoked. Log out and sign in again.")]
    Revoked,
    /// The issuer refused without a reason that is known.
    #[error("Your sign-in can't be renewed: the issuer refused it. Log out and sign in again.")]
    Other,
    /// The stored credentials are gone, or those of another account.
    #[error(
        "Your sign-in can't be renewed: you have signed out or changed to another account meanwhile. \
         Log out and sign in again."
    )]
    AccountChanged,
}

impl RefreshError {
    /// The status of the issuer's answer, where it is known and telling; for the log.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Transient { status, .. } => *status,
            Self::Permanent(_) | Self::NotRefreshable => None,
        }
    }
}

/// What a refresh brings. What is absent stays as it was.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RefreshedTokens {
    pub(crate) id_token: Option<Secret>,
    pub(crate) access_token: Option<Secret>,
    pub(crate) refresh_token: Option<Secret>,
}

/// Why this sign-in should be refreshed now, if it should.
pub(crate) fn due(auth: &Auth, now: Timestamp) -> Option<RefreshReason> {
    let credentials = auth.managed()?;
    match credentials.tokens()?.access_expiry() {
        Some(expiry) => {
            (expiry.duration_since(now) <= AHEAD_OF_EXPIRY).then_some(RefreshReason::ProactiveExpiry)
        }
        None => {
            (now.duration_since(credentials.last_refresh()?) > MAX_AGE).then_some(RefreshReason::Scheduled)
        }
    }
}

/// The URL that a refresh goes to, and the client id it uses.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    url: String,
    client_id: String,
}

fn endpoint(variables: &Variables, provenance: Option<&Provenance>) -> Endpoint {
    let client_id = provenance
        .map(|provenance| &provenance.client_id)
        .or(variables.client_id.as_ref())
        .map_or(DEFAULT_CLIENT_ID, String::as_str)
        .to_owned();
    let issuer = provenance.map_or(DEFAULT_ISSUER, |provenance| provenance.issuer.trim_end_matches('/'));
    let url = variables.refresh_url.clone().unwrap_or_else(|| format!("{issuer}/oauth/token"));
    Endpoint { url, client_id }
}

/// Asks the issuer for new tokens.
pub(crate) async fn request(
    client: &HttpClient,
    variables: &Variables,
    tokens: &Tokens,
    reason: RefreshReason,
) -> Result<RefreshedTokens, RefreshError> {
    #[derive(Serialize)]
    struct Body<'a> {
        client_id: &'a str,
        grant_type: &'static str,
        refresh_reason: RefreshReason,
        refresh_token: &'a str,
    }
    let endpoint = endpoint(variables, tokens.provenance());
    check_address(&endpoint.url)?;
    client.prepare().await.map_err(|error| transient(error.to_string()))?;
    let request = client
        .plain()
        .map_err(|error| transient(error.to_string()))?
        .post(&endpoint.url)
        .headers(client.named_headers().map_err(|error| transient(error.to_string()))?)
        .json(&Body {
            client_id: &endpoint.client_id,
            grant_type: "refresh_token",
            refresh_reason: reason,
            refresh_token: tokens.refresh_token().expose(),
        });
    let answer = request.send().await.map_err(|error| transient(http_error::cause(error)))?;
    let status = answer.status();
    let body = http_error::body(answer).await.map_err(transient)?;
    if !status.is_success() {
        return Err(classify(status, &body));
    }
    // An array would be taken for the struct; only an object counts.
    serde_json::from_slice::<serde_json::Map<String, Value>>(&body)
        .and_then(|_| serde_json::from_slice(&body))
        .map_err(|error| RefreshError::Transient {
            status: Some(status.as_u16()),
            cause: format!("the issuer's answer is unusable ({})", http_error::json_place(&error)),
        })
}

/// A refresh token goes out encrypted, or stays on this machine. The address is not shown: it may hold a password.
fn check_address(url: &str) -> Result<(), RefreshError> {
    const ORIGIN: &str =
        "the refresh address (CODEX_REFRESH_TOKEN_URL_OVERRIDE, else the issuer of the stored tokens)";
    let parsed = Url::parse(url).map_err(|_| transient(format!("{ORIGIN} is not a URL")))?;
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(&parsed) => Ok(()),
        _ => Err(transient(format!("{ORIGIN} is neither https nor on this machine"))),
    }
}

fn transient(cause: impl Into<String>) -> RefreshError {
    RefreshError::Transient { status: None, cause: cause.into() }
}

/// The class of a refusal (login.md 7.3).
fn classify(status: StatusCode, body: &[u8]) -> RefreshError {
    let code = error_code(body);
    let permanent = match code.as_deref() {
        _ if !status.is_client_error() => None,
        Some("refresh_token_expired") => Some(PermanentFailure::Expired),
        Some("refresh_token_reused") => Some(PermanentFailure::AlreadyUsed),
        Some("refresh_token_invalidated") => Some(PermanentFailure::Revoked),
        _ if status == StatusCode::UNAUTHORIZED => Some(PermanentFailure::Other),
        Some("invalid_grant") if status == StatusCode::BAD_REQUEST => Some(PermanentFailure::Other),
        _ => None,
    };
    permanent.map_or_else(
        || RefreshError::Transient {
            status: Some(status.as_u16()),
            cause: format!("the issuer answered {status}"),
        },
        RefreshError::Permanent,
    )
}

fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = &body["error"];
    let code = error["code"].as_str().or_else(|| error.as_str()).or_else(|| body["code"].as_str())?;
    Some(code.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
