//! Reads an issuer's answers: bounded, in time, and without repeating a secret in an error.

use std::error::Error;

use reqwest::{RequestBuilder, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde_json::Value;

/// How much of an answer is read; more makes the answer unusable.
const BODY_BYTES: usize = 1 << 20;
/// How many characters of foreign text go into an error.
const DETAIL_CHARS: usize = 2000;
/// Shorter values are no secrets worth looking for in foreign text.
const SECRET_CHARS: usize = 4;

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// No answer came; `Display` says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

/// Sends a request, within `time`, and reads the whole answer.
pub(super) async fn ask(request: RequestBuilder, time: std::time::Duration) -> Result<Answer, NoAnswer> {
    let exchange = async {
        let mut response = request.send().await?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > BODY_BYTES {
                return Ok(Err(NoAnswer(format!("the answer has more than {BODY_BYTES} bytes"))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>(Ok(Answer { status: response.status(), body }))
    };
    match tokio::time::timeout(time, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Err(NoAnswer(told_once(&error.without_url()))),
        Err(_) => Err(NoAnswer(format!("no answer within {} s", time.as_secs_f64()))),
    }
}

/// An error and its causes in one sentence.
fn told_once(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !told.contains(&cause_text) {
            told = format!("{told}: {cause_text}");
        }
        source = cause.source();
    }
    told
}

/// What a non-2xx answer says about itself (spec 8.3), with the request's own secrets blotted out.
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
