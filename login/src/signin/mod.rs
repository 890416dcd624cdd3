//! Signs a user in: by browser on this machine, or by a code entered on another one (login.md 8).
//!
//! Both flows end with an authorization code that the issuer exchanges for tokens; the caller's `save` keeps them.
//! Nothing here prints, opens a browser or reads the environment: what the user has to see is a [`Notice`].

mod answer;
mod authorize;
mod browser;
mod device;
mod error;
mod exchange;
mod pages;
mod port;
mod server;
mod sign_out;
mod token;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use codex_secret::Secret;
use jiff::Timestamp;

use crate::claims::ClaimsError;
use crate::client::REQUEST_TIMEOUT;
use crate::credentials::{Provenance, StoredCredentials, Tokens, new_login_owner_id};
use crate::refresh::{DEFAULT_CLIENT_ID, DEFAULT_ISSUER};

pub use browser::{Browser, sign_in_by_browser};
pub use device::sign_in_by_device;
pub use error::{Failure, SignInError};
pub use port::PORTS;
pub use sign_out::{replace_sign_in, revoke_replaced, sign_out};

/// Who signs users in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Base URL exactly as given; a trailing `/` is left out of the URLs made from it.
    pub url: String,
    /// What this program is called there.
    pub client_id: String,
}

impl Default for Issuer {
    fn default() -> Self {
        Self { url: DEFAULT_ISSUER.to_owned(), client_id: DEFAULT_CLIENT_ID.to_owned() }
    }
}

impl Issuer {
    /// The base URL without a trailing `/`.
    fn base(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.base())
    }
}

/// What both flows need.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Who signs the user in.
    pub issuer: Issuer,
    /// Sends the requests, with no headers of its own (login.md 11): that of [`crate::HttpClient::plain`].
    pub http: reqwest::Client,
    /// Account ids that may sign in (`forced_chatgpt_workspace_id`); none means any.
    pub workspaces: Option<Vec<String>>,
    /// How long things may take.
    pub waits: Waits,
}

/// How long each part of a sign-in may take; then it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// One request to the issuer, its answer's body included.
    pub request: Duration,
    /// The whole wait for the user to enter a device code.
    pub device_code: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { request: REQUEST_TIMEOUT, device_code: Duration::from_secs(15 * 60) }
    }
}

/// What a finished sign-in yields, for the caller to save.
pub struct SignedIn {
    /// The id token, a JWT that was found readable.
    pub id_token: Secret,
    /// The access token; may be opaque.
    pub access_token: Secret,
    /// The refresh token.
    pub refresh_token: Secret,
    /// The API key that the id token was exchanged for; only the browser flow asks for one.
    pub api_key: Option<Secret>,
}

impl SignedIn {
    /// The credentials to store, refreshed just now.
    ///
    /// # Errors
    /// The id token can't be read; not when it came from a sign-in here.
    pub fn into_credentials(self, issuer: &Issuer) -> Result<StoredCredentials, ClaimsError> {
        let provenance = Provenance { issuer: issuer.url.clone(), client_id: issuer.client_id.clone() };
        let tokens = Tokens::new(self.id_token, self.access_token, self.refresh_token)?
            .with_provenance(provenance)
            .with_login_owner_id(new_login_owner_id());
        Ok(StoredCredentials::from_chatgpt(tokens, self.api_key, Timestamp::now()))
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn").field("api_key", &self.api_key.is_some()).finish_non_exhaustive()
    }
}

/// Something the user has to see while a sign-in is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The callback server listens; the user has to visit this URL. It holds the state: don't log it.
    Visit {
        /// The callback server's port.
        port: u16,
        /// The authorize URL.
        url: &'a str,
    },
    /// The user has to enter this code on this page. The code is a secret: don't log it.
    EnterCode {
        /// Where to enter it.
        page: &'a str,
        /// The code that the user enters.
        code: &'a str,
    },
    /// The id token has no `https://api.openai.com/auth` object; the sign-in goes on.
    NoAuthClaims,
}
