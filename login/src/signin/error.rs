//! Why a sign-in failed: for the terminal, and for the page that the browser shows.

use std::time::Duration;

/// Why a sign-in failed. `Display` is what follows `Error logging in: `.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Somebody fetched `/cancel`: another sign-in wants the port.
    #[error("Login cancelled")]
    Cancelled,
    /// Every port that the issuer would redirect to is taken.
    #[error("Port 127.0.0.1:{0} is already in use")]
    PortsBusy(u16),
    /// The callback server can't listen for another reason than a taken port.
    #[error("can't listen on 127.0.0.1:{port} for the sign-in's callback: {cause}")]
    Listen {
        /// The port that was tried.
        port: u16,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The issuer's URL can't be used.
    #[error("the issuer {url:?} is no http or https URL: {cause}")]
    BadIssuer {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        cause: url::ParseError,
    },
    /// The browser flow went wrong after the user was asked; a page has said so, too.
    #[error("{0}")]
    Failed(Failure),
    /// The issuer knows no device codes.
    #[error(
        "device code login is not enabled for this Codex server. Use the browser login or verify the server URL."
    )]
    DeviceCodesUnknown,
    /// The issuer gave no device code.
    #[error("device code request failed with status {0}")]
    DeviceCodeStatus(reqwest::StatusCode),
    /// The issuer could not be asked for a device code, or its answer could not be used.
    #[error("device code request failed: {0}")]
    DeviceCode(String),
    /// The issuer refused the device code.
    #[error("device auth failed with status {0}")]
    DeviceAuthStatus(reqwest::StatusCode),
    /// The issuer could not be asked whether the code was entered, or its answer could not be used.
    #[error("device auth failed: {0}")]
    DeviceAuth(String),
    /// Nobody entered the code in time.
    #[error("device auth timed out after {} minutes", .0.as_secs() / 60)]
    DeviceTimeout(Duration),
    /// The issuer gave an authorization code but no tokens for it.
    #[error("device code exchange failed: {0}")]
    DeviceExchange(String),
    /// The account that entered the device code may not sign in here, or its id token can't be read.
    #[error("{}", .0.cause())]
    DeviceRefused(Failure),
    /// The credentials of a device sign-in could not be saved.
    #[error("{0}")]
    Save(String),
}

impl SignInError {
    /// The line with the cause that precedes `Error logging in: …`, where there is one (login.md 8.3).
    #[must_use]
    pub fn first_line(&self) -> Option<String> {
        match self {
            Self::Failed(failure) => failure.first_line(),
            _ => None,
        }
    }
}

/// A sign-in that failed after the user was asked (login.md 8.3). `Display` is the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The issuer refused, or the user did.
    #[error("Sign-in failed: {}", .description.as_deref().unwrap_or(.code))]
    Refused {
        /// The OAuth error code.
        code: String,
        /// The issuer's own words.
        description: Option<String>,
    },
    /// The account's workspace may not use Codex.
    #[error(
        "Codex is not enabled for your workspace. Ask your workspace administrator for access to Codex, then sign in again."
    )]
    NotEntitled {
        /// The issuer's own words.
        description: String,
    },
    /// The callback has neither a code nor an error.
    #[error("Missing authorization code. Sign-in could not be completed.")]
    NoCode,
    /// The code could not be exchanged for tokens.
    #[error("Token exchange failed: {0}")]
    Exchange(String),
    /// `forced_chatgpt_workspace_id` allows other accounts only.
    #[error("Login is restricted to workspace id(s) {}.", .0.join(", "))]
    Workspace(Vec<String>),
    /// The credentials could not be saved, or the id token not read.
    #[error("Sign-in completed but credentials could not be saved locally.")]
    Persist(String),
}

impl Failure {
    /// The cause where the message has none, for a flow without a line before.
    fn cause(&self) -> String {
        match self {
            Self::Persist(cause) => cause.clone(),
            _ => self.to_string(),
        }
    }

    /// The line with the cause for the terminal.
    fn first_line(&self) -> Option<String> {
        match self {
            Self::Refused { .. } | Self::NotEntitled { .. } => Some(format!("OAuth callback error: {self}")),
            Self::NoCode => None,
            Self::Exchange(cause) => Some(format!("Token exchange error: {cause}")),
            Self::Workspace(_) => Some(format!("Workspace restriction error: {self}")),
            Self::Persist(cause) => Some(format!("Persist error: {cause}")),
        }
    }

    /// The error code on the page.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::NotEntitled { .. } => "access_denied",
            Self::NoCode => "missing_authorization_code",
            Self::Exchange(_) => "token_exchange_failed",
            Self::Workspace(_) => "workspace_restriction",
            Self::Persist(_) => "persist_failed",
        }
    }

    /// The title of the page.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::NotEntitled { .. } => "You do not have access to Codex",
            Self::Workspace(_) => "This workspace may not sign in here",
            Self::Persist(_) => "Your sign-in could not be saved",
            Self::Refused { .. } | Self::NoCode | Self::Exchange(_) => "Sign-in could not be completed",
        }
    }

    /// What the page says beyond the message.
    pub(super) fn description(&self) -> &str {
        match self {
            Self::Refused { description, .. } => description.as_deref().unwrap_or_default(),
            Self::NotEntitled { description } => description,
            Self::NoCode => "The issuer's answer held neither a code nor an error.",
            Self::Exchange(cause) => cause,
            Self::Workspace(_) => "Sign in with an account of an allowed workspace.",
            // The cause names local paths; it is for the terminal.
            Self::Persist(_) => "The terminal says why.",
        }
    }
}
