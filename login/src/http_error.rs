//! Answers of sign-in services, read with a bound, and their failures in words that hold no secret.

use zeroize::Zeroizing;

/// The largest answer that is read. A safeguard, far from any real use.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Room for an answer of usual size: a buffer that grows leaves copies behind that nobody wipes. Chosen for speed.
const USUAL_BYTES: usize = 32 * 1024;

/// A transport failure with its causes, without the address: an address may hold a secret in its query.
pub(crate) fn cause(error: reqwest::Error) -> String {
    codex_outgoing::sentence(&error.without_url())
}

/// The class and place of a JSON error, without the value.
pub(crate) fn json_place(error: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()).to_lowercase()
}

/// The body of an answer, wiped after use.
pub(crate) async fn body(mut answer: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
    while let Some(chunk) = answer.chunk().await.map_err(cause)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(format!("the answer is longer than {MAX_BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
