//! Exchanges an authorization code for tokens, and an id token for an API key (login.md 8.4).
//!
//! `oauth2` makes the authorize URL and the PKCE values but not these requests: it refuses an answer without
//! `token_type`, sends an `Accept` header of its own, and keeps only RFC 6749 error bodies, while login.md's error
//! text needs every form.

use codex_secret::Secret;
use reqwest::StatusCode;
use serde::Deserialize;

use super::answer::{NoAnswer, ask, detail};
use super::{SignIn, SignedIn};

const KEY_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Why a code brought no tokens.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("token endpoint returned status {status}: {detail}")]
    Status { status: StatusCode, detail: String },
    #[error("OAuth token response is invalid")]
    Invalid,
    #[error("token endpoint can't be asked: {0}")]
    NoAnswer(#[from] NoAnswer),
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Secret,
    access_token: Secret,
    refresh_token: Secret,
}

#[derive(Deserialize)]
struct Key {
    access_token: Secret,
}

/// Exchanges a code for tokens; `redirect_uri` and `verifier` must be those of the authorization.
pub(super) async fn code_for_tokens(
    sign_in: &SignIn,
    code: &Secret,
    redirect_uri: &str,
    verifier: &Secret,
) -> Result<SignedIn, ExchangeError> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", redirect_uri),
        ("client_id", &sign_in.issuer.client_id),
        ("code_verifier", verifier.expose()),
    ];
    let request = sign_in.http.post(sign_in.issuer.endpoint("/oauth/token")).form(&form);
    let answer = ask(request, sign_in.waits.request).await?;
    if !answer.status.is_success() {
        let detail = detail(&answer.body, &[code.expose(), verifier.expose()]);
        return Err(ExchangeError::Status { status: answer.status, detail });
    }
    let tokens: Tokens = serde_json::from_slice(&answer.body).map_err(|_| ExchangeError::Invalid)?;
    Ok(SignedIn {
        id_token: tokens.id_token,
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token,
        api_key: None,
    })
}

/// Exchanges an id token for an API key. Most accounts get none, so any failure is no key.
pub(super) async fn id_token_for_key(sign_in: &SignIn, id_token: &Secret) -> Option<Secret> {
    let form = [
        ("grant_type", KEY_GRANT),
        ("client_id", &sign_in.issuer.client_id),
        ("requested_token", "openai-api-key"),
        ("subject_token", id_token.expose()),
        ("subject_token_type", ID_TOKEN_TYPE),
    ];
    let request = sign_in.http.post(sign_in.issuer.endpoint("/oauth/token")).form(&form);
    match ask(request, sign_in.waits.request).await {
        Ok(answer) if answer.status.is_success() => {
            serde_json::from_slice::<Key>(&answer.body).ok().map(|key| key.access_token)
        }
        Ok(answer) => {
            tracing::info!(status = %answer.status, "the issuer gave no API key");
            None
        }
        Err(error) => {
            tracing::info!(%error, "the issuer could not be asked for an API key");
            None
        }
    }
}
