//! The error object of an answer, and its codes (section 17).

use serde::{Deserialize, Deserializer, Serialize};

/// The numeric codes that clients act on (section 17).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(pub i64);

impl ErrorCode {
    /// A malformed message, a state or a rule that forbids the request.
    pub const INVALID_REQUEST: Self = Self(-32600);
    /// No such method.
    pub const METHOD_NOT_FOUND: Self = Self(-32601);
    /// Params that do not decode.
    pub const INVALID_PARAMS: Self = Self(-32602);
    /// The operating system or a peer failed.
    pub const INTERNAL: Self = Self(-32603);
    /// No such file or handle.
    pub const NOT_FOUND: Self = Self(-32004);
    /// The session is attached to another connection.
    pub const SESSION_ATTACHED: Self = Self(-32010);
}

/// An error answer: a code for programs, a sentence for people.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} (code {})", code.0)]
pub struct RpcError {
    /// What clients act on.
    pub code: ErrorCode,
    /// A sentence for people; programs don't read it.
    pub message: String,
    /// Why a start failed, for programs (21.1).
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub data: Option<StartFailure>,
    /// The system's number for it, for answers in another dialect than ours; not on the wire.
    #[serde(skip)]
    pub os_error: Option<i32>,
}

/// Why a `process/start` failed. Only that method has it (21.1).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum StartFailure {
    /// The program or the working directory is missing.
    SpawnNotFound,
    /// The program may not be executed.
    SpawnPermissionDenied,
    /// The program could not be started for another reason.
    SpawnFailed,
    /// This server does not have the sandbox that is asked for.
    SandboxUnavailable,
    /// The sandbox could not be made.
    SandboxPreparation,
}

/// Reads what is known; anything else that a server may add is as if it were not there.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StartFailure>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(deserializer)?).ok())
}

impl RpcError {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None, os_error: None }
    }
    /// The same error, of a start that failed for this reason.
    #[must_use]
    pub fn of_start(self, failure: StartFailure) -> Self {
        Self { data: Some(failure), ..self }
    }
    /// The same error, which the system has this number for.
    #[must_use]
    pub fn of_system(self, number: i32) -> Self {
        Self { os_error: Some(number), ..self }
    }
    /// `-32600`: a rule or a state forbids it.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, message)
    }
    /// `-32601`: no such method.
    pub fn method_not_found(method: &str) -> Self {
        Self::new(ErrorCode::METHOD_NOT_FOUND, format!("unknown method: {method}"))
    }
    /// `-32602`: the params do not decode.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_PARAMS, message)
    }
    /// `-32603`: the operating system or a peer failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INTERNAL, message)
    }
    /// `-32600`: a token is asked for, which only an upgrade can show. Clients know it by [`Self::is_token_wanted`].
    pub fn token_wanted() -> Self {
        Self::invalid_request("this exec-server asks for a bearer token: connect with a websocket upgrade")
    }
    /// Whether this is [`Self::token_wanted`].
    pub fn is_token_wanted(&self) -> bool {
        *self == Self::token_wanted()
    }
    /// `-32004`: no such file or handle.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NOT_FOUND, message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_reason_of_a_failed_start_is_written_and_what_else_stands_there_is_passed_over() {
        let error = RpcError::internal("x").of_start(StartFailure::SpawnPermissionDenied);
        let written = json!({"code": -32603, "message": "x", "data": {"kind": "spawnPermissionDenied"}});
        assert_eq!(serde_json::to_value(&error).unwrap(), written);
        assert_eq!(
            serde_json::to_value(RpcError::internal("x")).unwrap(),
            json!({"code": -32603, "message": "x"})
        );
        let read = |data: Value| {
            let error = json!({"code": 1, "message": "", "data": data});
            serde_json::from_value::<RpcError>(error).unwrap().data
        };
        assert_eq!(read(json!({"kind": "spawnNotFound", "more": 1})), Some(StartFailure::SpawnNotFound));
        for other in [json!("text"), json!(null), json!({"kind": "new"}), json!({}), json!([1]), json!(5)] {
            assert_eq!(read(other.clone()), None, "{other}");
        }
    }
}
