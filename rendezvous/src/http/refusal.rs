//! A request that is not granted: status, error body and rejection reason (`remote.md` 1.2, 8.1).

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use codex_exec_protocol::registry::{ErrorBody, REGISTRATION_CONFLICT, REJECTION_HEADER};

/// Why a request is not granted, and what would help.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// For programs and for the metrics.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    /// For the log of an executor whose upgrade is refused.
    pub(crate) rejection: Option<&'static str>,
    pub(crate) retry_after: Option<Duration>,
}

/// Left in the answer, for the log and the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused(pub(crate) &'static str);

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), rejection: None, retry_after: None }
    }

    /// No token, or one that is not known.
    pub(crate) fn unauthorized() -> Self {
        let message = "no valid bearer token; the operator of this registry makes one with \
                       `codex exec-server rendezvous token`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// A token that is not for this.
    pub(crate) fn forbidden(what: &str, environment: &str) -> Self {
        let message =
            format!("this token may not {what} environment {environment}; ask the operator for one that may");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Too many requests of one token.
    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        let message = "this token makes too many requests; slow down";
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        Self { retry_after: Some(wait), ..refusal }
    }

    /// Asks to register again later, in the one form after which released executors try again.
    pub(crate) fn try_registering_again(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, REGISTRATION_CONFLICT, message)
    }

    /// The program is ending: come back later.
    pub(crate) fn draining(path: &str) -> Self {
        let message = "this rendezvous restarts; try again in a moment";
        if path.ends_with("/register") {
            return Self::try_registering_again(message);
        }
        Self::upgrade(StatusCode::SERVICE_UNAVAILABLE, "pod_draining", message)
    }

    /// Refuses a websocket for a reason that executors know.
    pub(crate) fn upgrade(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { rejection: Some(reason), ..Self::new(status, reason, message) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody::new(self.code, self.message))).into_response();
        let headers = response.headers_mut();
        if let Some(reason) = self.rejection {
            headers.insert(REJECTION_HEADER, HeaderValue::from_static(reason));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response.extensions_mut().insert(Refused(self.code));
        response
    }
}
