//! The error object of an answer, and its codes (section 17).

use serde::{Deserialize, Serialize};

/// The numeric codes that clients act on (section 17).
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} (code {})", code.0)]
pub struct RpcError {
    /// What clients act on.
    pub code: ErrorCode,
    /// A sentence for people; programs don't read it.
    pub message: String,
}

impl RpcError {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
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
