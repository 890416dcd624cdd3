//! What can go wrong between an executor and its registry, in the words of the released executors (1.2).

use std::error::Error as StdError;
use std::fmt;

use codex_outgoing::sentence;
use reqwest::StatusCode;

use super::contract::Contract;

/// Why a registration failed. Displayed as a released executor prints it after `Error: `.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Something that was configured can't be used; nothing was sent.
    #[error("{} configuration error: {problem}", contract.subject())]
    Configuration {
        /// The contract, which decides the words of the message.
        contract: Contract,
        /// What, and what would be right.
        problem: String,
    },
    /// There is no usable credential; nothing was sent.
    #[error("{0}")]
    Credential(String, #[source] Option<Cause>),
    /// The base URL is not absolute (the words of D and E with an API key).
    #[error("invalid remote exec-server registration URL: {0}")]
    Url(url::ParseError),
    /// The base URL is not absolute (the words of the others); nothing was sent.
    #[error("{} request failed: builder error", contract.service())]
    BadUrl {
        /// The contract, which decides the words of the message.
        contract: Contract,
        /// What is wrong with it.
        #[source]
        cause: Option<Cause>,
    },
    /// Certificates or proxies that can't be used; nothing was sent.
    #[error(transparent)]
    Outgoing(#[from] codex_outgoing::OutgoingError),
    /// No answer came, or it broke off.
    #[error("{} request failed: {text}", contract.service())]
    Request {
        /// The contract, which decides the words of the message.
        contract: Contract,
        /// What went wrong, in the words of released executors.
        text: String,
        /// What the HTTP library says of the cause.
        #[source]
        cause: Option<Cause>,
    },
    /// The registry refused the credential.
    #[error("{0} authentication error: {0} authentication failed ({status}): {message}", contract.service())]
    Unauthorized {
        /// The contract, which decides the words of the message.
        contract: Contract,
        /// 401 or 403.
        status: StatusCode,
        /// What the registry said.
        message: String,
    },
    /// The registry answered with another status than success.
    #[error("{} request failed ({status}{}): {message}", contract.service(), code.as_ref().map_or_else(String::new, |code| format!(", {code}")))]
    Refused {
        /// The contract, which decides the words of the message.
        contract: Contract,
        /// The HTTP status of the answer.
        status: StatusCode,
        /// The registry's word for programs.
        code: Option<String>,
        /// What the registry said.
        message: String,
    },
    /// The registry's success can't be understood.
    #[error("{text}")]
    Answer {
        /// In the contract's words.
        text: String,
        /// Whether the answer is another contract's, so that asking again can't help.
        other_contract: bool,
        /// What the answer looks like instead, where that is known.
        #[source]
        cause: Option<Cause>,
    },
    /// The registry answered for something else than what was asked.
    #[error("exec-server protocol error: {0}")]
    Protocol(String),
}

impl RemoteError {
    /// Whether trying again later can't help: a refused credential, a wrong contract, a removed environment.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Configuration { .. }
            | Self::Credential(..)
            | Self::Url(_)
            | Self::BadUrl { .. }
            | Self::Outgoing(_)
            | Self::Unauthorized { .. }
            | Self::Protocol(_) => true,
            Self::Request { .. } => false,
            Self::Refused { status, .. } => matches!(
                *status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::GONE
            ),
            Self::Answer { other_contract, .. } => *other_contract,
        }
    }

    /// Whether a released executor of contract E asks again, even for its first registration (6.1).
    pub(crate) fn is_passing(&self) -> bool {
        use codex_exec_protocol::registry::{AUTHENTICATION_UNAVAILABLE, REGISTRATION_CONFLICT};
        let Self::Refused { contract: Contract::Noise, status, code: Some(code), .. } = self else {
            return false;
        };
        (*status == StatusCode::SERVICE_UNAVAILABLE && code == REGISTRATION_CONFLICT)
            || (*status == StatusCode::BAD_GATEWAY && code == AUTHENTICATION_UNAVAILABLE)
    }

    /// The error and its causes in one line.
    pub fn sentence(&self) -> String {
        sentence(self)
    }
}

/// One link of the list `Caused by:`, with those below it.
#[derive(Debug)]
pub struct Cause {
    text: String,
    below: Option<Box<Self>>,
}

impl Cause {
    /// A cause without further ones.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), below: None }
    }

    /// The causes of an error, without the error itself.
    pub(crate) fn of(error: &dyn StdError) -> Option<Self> {
        let error = error.source()?;
        Some(Self { text: error.to_string(), below: Self::of(error).map(Box::new) })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.below.as_deref().map(|below| below as _)
    }
}
