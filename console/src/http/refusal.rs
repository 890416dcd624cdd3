//! Why a request is refused, for the page and for people.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use codex_exec_server::client::{ClientError, EnvironmentError};
use codex_exec_server::environment::CallError;
use codex_exec_server::protocol::{ErrorCode, RpcError};
use serde_json::json;

use crate::access::NoGrant;
use crate::forwards::ForwardError;
use crate::programs::ProgramError;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// A word for the page.
    code: &'static str,
    /// A sentence for people.
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Nobody is signed in.
    pub(super) fn signed_out() -> Self {
        let message = "sign in with a link that `codex exec-server console` prints, or that its owner makes";
        Self::new(StatusCode::UNAUTHORIZED, "signed_out", message)
    }

    /// The link is not for this.
    pub(super) fn forbidden(what: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("your link does not allow {what}"))
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "wrong", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    fn of_rpc(error: RpcError) -> Self {
        match error.code {
            ErrorCode::NOT_FOUND => Self::not_found(error.message),
            _ => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", error.message),
        }
    }

    fn unreachable(message: String) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "unreachable", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.code, "message": self.message}))).into_response()
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rpc(error) => Self::of_rpc(error),
            ClientError::Usage(sentence) => Self::wrong(sentence),
            other => Self::unreachable(other.to_string()),
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Rpc(error) => Self::of_rpc(error),
            CallError::Lost(sentence) => Self::unreachable(sentence),
        }
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        let message = error.to_string();
        match error {
            ProgramError::Environment(EnvironmentError::Unknown { .. }) | ProgramError::Absent(_) => {
                Self::not_found(message)
            }
            ProgramError::Environment(EnvironmentError::Paused(_)) | ProgramError::Taken(_) => {
                Self::conflict(message)
            }
            ProgramError::Environment(_) | ProgramError::NoServer(_) => Self::unreachable(message),
            ProgramError::Usage(_) => Self::wrong(message),
            ProgramError::Client(error) => error.into(),
        }
    }
}

impl From<NoGrant> for Refusal {
    fn from(error: NoGrant) -> Self {
        Self::conflict(error.to_string())
    }
}

impl From<ForwardError> for Refusal {
    fn from(error: ForwardError) -> Self {
        Self::conflict(error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self { status: rejection.status(), ..Self::wrong("the body is not what this address takes") }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self { status: rejection.status(), ..Self::wrong("the query is not what this address takes") }
    }
}
