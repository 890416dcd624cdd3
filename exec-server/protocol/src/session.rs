//! The handshake (section 5).

use serde::{Deserialize, Serialize};

use crate::encode::{Empty, NoParams, encode_with_serde};
use crate::environment::EnvironmentInfo;
use crate::ids::SessionId;
use crate::{methods, notifications};

methods! {
    /// Opens or resumes a session (5.1).
    Initialize: "initialize" (InitializeParams) -> InitializeResult;
    /// Ends the connection's session at once, with everything it owns (extension).
    End: "session/end" (NoParams) -> Empty;
}
notifications! {
    /// Sent by the client once it has the answer to `initialize` (5.2).
    Initialized: "initialized" (Empty);
}

/// Params of `initialize`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams {
    /// Who connects; may be empty.
    pub client_name: String,
    /// The session to take up again.
    #[serde(default)]
    pub resume_session_id: Option<SessionId>,
    /// Extension: how many milliseconds the session is to live without a connection; the server's bound cuts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached_ms: Option<u64>,
}

/// Result of `initialize`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// Random UUID v4, lower case.
    pub session_id: SessionId,
    /// What this machine is; absent from servers before 0.169.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_info: Option<EnvironmentInfo>,
    /// Extension: how many milliseconds the session lives without a connection, for who asked for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached_ms: Option<u64>,
}
encode_with_serde!(InitializeResult);
