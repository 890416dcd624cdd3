//! The device flow: the user enters a code on another machine while this one polls (login.md 8.5).

use std::fmt::Display;
use std::time::Duration;

use codex_secret::Secret;
use reqwest::StatusCode;
use serde::{Deserialize, Deserializer, de};
use serde_json::json;
use tokio::time::Instant;

use super::answer::{ask, printable};
use super::{Notice, SignIn, SignInError, SignedIn, exchange, token};
use crate::http_error::json_place;

/// The least pause after a look for the grant that got no answer. Our own pace: nothing outside depends on it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
pub(super) struct UserCode {
    device_auth_id: Secret,
    #[serde(alias = "usercode")]
    user_code: Secret,
    #[serde(default, deserialize_with = "seconds")]
    interval: Duration,
}

/// A string that holds whole seconds, spaces allowed; a number is an error.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let seconds = text.trim().parse().map_err(|error| de::Error::custom(format!("bad interval: {error}")))?;
    Ok(Duration::from_secs(seconds))
}

#[derive(Deserialize)]
pub(super) struct Granted {
    authorization_code: Secret,
    /// Has to be there; nothing is done with it, since the issuer made the verifier too.
    #[serde(rename = "code_challenge")]
    _code_challenge: Secret,
    code_verifier: Secret,
}

/// Signs in by a code that the user enters elsewhere. `tell` shows page and code, `save` keeps the credentials.
///
/// Cancel-safe until `save` is called.
///
/// # Errors
/// See [`SignInError`]; nothing is saved then.
pub async fn sign_in_by_device<E: Display>(
    sign_in: &SignIn,
    mut tell: impl FnMut(Notice<'_>),
    save: impl AsyncFnOnce(SignedIn) -> Result<(), E>,
) -> Result<(), SignInError> {
    let user_code = request_code(sign_in).await?;
    let page = sign_in.issuer.endpoint("/codex/device");
    let code = printable(user_code.user_code.expose(), &[]);
    tell(Notice::EnterCode { page: &page, code: &code });
    let granted = wait_for_grant(sign_in, &user_code).await?;
    let redirect_uri = sign_in.issuer.endpoint("/deviceauth/callback");
    let signed_in = exchange::code_for_tokens(
        sign_in,
        &granted.authorization_code,
        &redirect_uri,
        &granted.code_verifier,
    )
    .await
    .map_err(|error| SignInError::DeviceExchange(error.to_string()))?;
    let claims =
        token::check(&signed_in, sign_in.workspaces.as_deref()).map_err(SignInError::DeviceRefused)?;
    save(signed_in).await.map_err(|error| SignInError::Save(error.to_string()))?;
    tracing::info!("signed in by device code");
    if !claims.has_account_claims {
        tell(Notice::NoAuthClaims);
    }
    Ok(())
}

async fn request_code(sign_in: &SignIn) -> Result<UserCode, SignInError> {
    let url = sign_in.issuer.endpoint("/api/accounts/deviceauth/usercode");
    let request = sign_in.http.post(url).json(&json!({ "client_id": sign_in.issuer.client_id }));
    let answer = ask(request, sign_in.waits.request)
        .await
        .map_err(|error| SignInError::DeviceCode(error.to_string()))?;
    match answer.status {
        status if status.is_success() => {
            serde_json::from_slice(&answer.body).map_err(|error| SignInError::DeviceCode(unusable(&error)))
        }
        StatusCode::NOT_FOUND => Err(SignInError::DeviceCodesUnknown),
        status => Err(SignInError::DeviceCodeStatus(status)),
    }
}

/// Polls until the user has entered the code.
pub(super) async fn wait_for_grant(sign_in: &SignIn, user_code: &UserCode) -> Result<Granted, SignInError> {
    let url = sign_in.issuer.endpoint("/api/accounts/deviceauth/token");
    let body = json!({
        "device_auth_id": user_code.device_auth_id.expose(),
        "user_code": user_code.user_code.expose(),
    });
    let wait = sign_in.waits.device_code;
    let deadline = Instant::now() + wait;
    loop {
        let request = sign_in.http.post(&url).json(&body);
        let (unanswered, pause) = match ask(request, sign_in.waits.request).await {
            Ok(answer) => match answer.status {
                status if status.is_success() => {
                    return serde_json::from_slice(&answer.body)
                        .map_err(|error| SignInError::DeviceAuth(unusable(&error)));
                }
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => (None, user_code.interval),
                status => return Err(SignInError::DeviceAuthStatus(status)),
            },
            // The user may have the code on screen by now: one broken connection doesn't end that.
            Err(error) => {
                tracing::info!(%error, "a look for the grant failed; looking again");
                (Some(error), user_code.interval.max(RETRY_PAUSE))
            }
        };
        if Instant::now() >= deadline {
            return Err(match unanswered {
                Some(error) => SignInError::DeviceAuth(error.to_string()),
                None => SignInError::DeviceTimeout(wait),
            });
        }
        let next = Instant::now().checked_add(pause).map_or(deadline, |next| next.min(deadline));
        tokio::time::sleep_until(next).await;
    }
}

/// Says where an answer is wrong, without showing any of it.
fn unusable(error: &serde_json::Error) -> String {
    format!("the issuer's answer can't be used: {}", json_place(error))
}
