//! Headers on their way out and in: order and repeats kept, secrets of the server kept back.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::http::{RequestHeader, ResponseHeader};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};

use crate::withheld::is_secret;

/// Variables that never leave in a header beside this program's own credentials: the list of section 11.1, then relatives
/// of its members that hold the same kind of secret.
const REFUSED: &[&str] = &[
    "OPENAI_API_KEY",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    // Ours:
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

fn is_refused(name: &str) -> bool {
    is_secret(name.as_ref()) || REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(name))
}

/// The request's headers, with the variables' values appended.
///
/// # Errors
/// `-32602` for a bad name or value, and for a variable that is unset or refused. Never shows a value.
pub(super) fn to_send(
    headers: &[RequestHeader],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<HeaderMap, RpcError> {
    let mut map = HeaderMap::new();
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| {
            let shown: String = header.name.chars().take(50).collect();
            RpcError::invalid_params(format!("invalid header name {shown:?}: expected an HTTP token"))
        })?;
        let value = value_of(header, &name, variable)?;
        map.try_append(name, value).map_err(|_| RpcError::invalid_params("too many headers"))?;
    }
    Ok(map)
}

fn value_of(
    header: &RequestHeader,
    name: &HeaderName,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<HeaderValue, RpcError> {
    let mut bytes = header.value.as_bytes().to_vec();
    if let Some(wanted) = &header.value_env_var {
        let shown: String = wanted.chars().take(100).collect();
        if is_refused(wanted) {
            return Err(RpcError::invalid_params(format!(
                "valueEnvVar {shown} of header {name} holds a credential of the server and is never sent; \
                 use a variable of another name"
            )));
        }
        let found = variable(wanted).ok_or_else(|| {
            RpcError::invalid_params(format!(
                "valueEnvVar {shown} of header {name} is not set in the server's environment"
            ))
        })?;
        bytes.extend_from_slice(found.as_bytes());
    }
    let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| {
        RpcError::invalid_params(format!(
            "invalid value of header {name}: it holds a line break or a control character"
        ))
    })?;
    value.set_sensitive(header.value_env_var.is_some());
    Ok(value)
}

/// A `content-length` of the client's own must be right: a wrong one would leave the peer waiting
/// for bytes that never come, or taking the rest of the body for the next request.
///
/// # Errors
/// `-32602` for any other length than the body's.
pub(super) fn check_length(headers: &HeaderMap, body: usize) -> Result<(), RpcError> {
    let right = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok()) == Some(body);
    if headers.get_all(CONTENT_LENGTH).iter().all(right) {
        return Ok(());
    }
    Err(RpcError::invalid_params(format!(
        "header content-length contradicts the body of {body} bytes; leave it out, it is added"
    )))
}

/// The response's headers: lower-case names, repeats kept, values that are not visible ASCII dropped. Of a body that is
/// `unpacked`, none tells how it was packed.
pub(super) fn received(headers: &HeaderMap, unpacked: bool) -> Vec<ResponseHeader> {
    let readable = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().ok()?.to_owned();
        Some(ResponseHeader { name: name.as_str().to_owned(), value })
    };
    let is_told = |(name, _): &(&HeaderName, &HeaderValue)| {
        !(unpacked && [CONTENT_ENCODING, CONTENT_LENGTH].contains(*name))
    };
    headers.iter().filter(is_told).filter_map(readable).collect()
}
