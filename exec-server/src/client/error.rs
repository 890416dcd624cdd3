//! Why a client's work fails.

use std::time::Duration;

use crate::protocol::RpcError;

/// Why a call or a connection failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The server can't be reached, or is none.
    #[error("can't reach the exec-server at {target}: {reason}")]
    Connect {
        /// The address, without secrets.
        target: String,
        /// Why no connection came about, as a sentence.
        reason: String,
    },
    /// The registry or the executor refused for good: trying again would end the same way.
    #[error("{target} can't be used: {reason}")]
    Refused {
        /// The address, without secrets.
        target: String,
        /// What the registry or the executor said.
        reason: String,
        /// Whether the token is why.
        unauthorized: bool,
    },
    /// The server asks for a bearer token, and there was none.
    #[error("the exec-server at {target} asks for a bearer token, and none was given")]
    TokenWanted {
        /// The address, without secrets.
        target: String,
    },
    /// The server does not take the bearer token: it is another one's, or it has expired.
    #[error("the exec-server at {target} refused the bearer token: it is wrong or has expired")]
    TokenRefused {
        /// The address, without secrets.
        target: String,
    },
    /// A server that was started as a child ended before the handshake. What it said is on its stderr.
    #[error("{target} ended before the handshake with exit code {code}")]
    ChildEnded {
        /// The program that was started, as it was asked for.
        target: String,
        /// The exit code of the child.
        code: i32,
    },
    /// The server did not answer the connection or the handshake in time.
    #[error("the exec-server at {target} did not finish {what} within {after:?}")]
    TimedOut {
        /// The address, without secrets.
        target: String,
        /// `the connection` or `the handshake`.
        what: &'static str,
        /// How long the client waited.
        after: Duration,
    },
    /// The server answered with an error.
    #[error("{0}")]
    Rpc(RpcError),
    /// The connection went before the answer came, and the request may not be repeated or could not be.
    #[error("the connection to the exec-server was lost: {0}")]
    Lost(String),
    /// The answer was not what the protocol says.
    #[error("the exec-server's answer to {method} can't be read: {reason}")]
    Answer {
        /// The name of the method that was called.
        method: &'static str,
        /// What does not fit in the answer.
        reason: String,
    },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// Whether a token is missing, or was refused.
    pub const fn is_about_credentials(&self) -> bool {
        matches!(
            self,
            Self::TokenWanted { .. } | Self::TokenRefused { .. } | Self::Refused { unauthorized: true, .. }
        )
    }
}
