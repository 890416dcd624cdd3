//! Reads an issuer's answers: bounded, in time, and without repeating a secret in an error.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::http_error;

/// How many characters of foreign text go into an error.
const DETAIL_CHARS: usize = 2000;
/// Shorter values are no secrets worth looking for in foreign text.
const SECRET_CHARS: usize = 4;

/// An answer with its whole body.
pub(super) struct IssuerAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// No answer came; `Display` says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

/// Sends a request, within `time`, and reads the whole answer.
pub(super) async fn ask(request: RequestBuilder, time: Duration) -> Result<IssuerAnswer, NoAnswer> {
    let exchange = async {
        let response = request.send().await.map_err(http_error::cause)?;
        Ok(IssuerAnswer { status: response.status(), body: http_error::body(response).await? })
    };
    match tokio::time::timeout(time, exchange).await {
        Ok(answer) => answer.map_err(NoAnswer),
        Err(_) => Err(NoAnswer(format!("no answer within {} s", time.as_secs_f64()))),
    }
}

/// What a non-2xx answer says about itself (login.md 8.3), with the request's own secrets blotted out.
pub(super) fn detail(body: &[u8], secrets: &[&str]) -> String {
    let from_json = serde_json::from_slice::<Value>(body).ok().and_then(|json| {
        let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let error = &json["error"];
        text(&json["error_description"])
            .or_else(|| text(&error["message"]))
            .or_else(|| text(error))
            .or_else(|| text(&error["code"]))
    });
    let detail = from_json.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    if detail.is_empty() { "unknown error".to_owned() } else { printable(&detail, secrets) }
}

/// Foreign text made fit for a terminal: no control characters, bounded, these secrets blotted out.
pub(super) fn printable(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_CHARS) {
        text = text.replace(secret, "[redacted]");
    }
    let control = |c: char| c.is_control() && c != '\n';
    let mut clean: String = text
        .chars()
        .take(DETAIL_CHARS)
        .map(|c| if control(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(DETAIL_CHARS).is_some() {
        clean.push('…');
    }
    clean
}
