//! What `auth.json` and the keyring hold: credentials of each kind of sign-in (login.md 2).

mod document;
mod time;
mod tokens;

pub use document::DocumentError;
pub use tokens::{Provenance, Tokens, new_login_owner_id};

use crate::opaque::{Opaque, Unknown};
use codex_secret::{Secret, SignInKind};
use jiff::Timestamp;

/// Credentials of any kind, with every member that the document had, known or not.
#[derive(Debug, Clone, Default)]
pub struct StoredCredentials {
    auth_mode: Option<SignInKind>,
    api_key: Option<Secret>,
    tokens: Option<Tokens>,
    last_refresh: Option<Timestamp>,
    agent_identity: Option<Opaque>,
    personal_access_token: Option<Secret>,
    bedrock_api_key: Option<Opaque>,
    bedrock_access_keys: Option<Opaque>,
    unknown: Unknown,
}

impl StoredCredentials {
    /// Credentials that are an API key.
    pub fn from_api_key(key: Secret) -> Self {
        Self { auth_mode: Some(SignInKind::ApiKey), api_key: Some(key), ..Self::default() }
    }

    /// Credentials of a ChatGPT sign-in, with the API key that was exchanged for it, if one was.
    pub fn from_chatgpt(tokens: Tokens, api_key: Option<Secret>, last_refresh: Timestamp) -> Self {
        Self {
            auth_mode: Some(SignInKind::Chatgpt),
            api_key,
            tokens: Some(tokens),
            last_refresh: Some(last_refresh),
            ..Self::default()
        }
    }

    /// Credentials that are a personal access token. The document has no `auth_mode` then (login.md 2.1).
    pub fn from_personal_access_token(token: Secret) -> Self {
        Self { personal_access_token: Some(token), ..Self::default() }
    }

    /// The kind of sign-in: as the document says, else by what it holds (login.md 2.2).
    pub fn kind(&self) -> SignInKind {
        match self.auth_mode {
            Some(kind) => kind,
            None if self.personal_access_token.is_some() => SignInKind::PersonalAccessToken,
            None if self.bedrock_api_key.is_some() => SignInKind::BedrockApiKey,
            None if self.bedrock_access_keys.is_some() => SignInKind::BedrockAccessKeys,
            None if self.api_key.is_some() => SignInKind::ApiKey,
            None => SignInKind::Chatgpt,
        }
    }

    /// `OPENAI_API_KEY`. Present in a ChatGPT sign-in too, where it does not count.
    pub fn api_key(&self) -> Option<&Secret> {
        self.api_key.as_ref()
    }

    /// The tokens of a ChatGPT sign-in.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// When the tokens were last renewed.
    pub fn last_refresh(&self) -> Option<Timestamp> {
        self.last_refresh
    }

    /// The personal access token.
    pub fn personal_access_token(&self) -> Option<&Secret> {
        self.personal_access_token.as_ref()
    }

    /// Whether the document has an agent's identity.
    pub fn has_agent_identity(&self) -> bool {
        self.agent_identity.is_some()
    }

    /// The agent's identity, if it is a text and no object.
    pub(crate) fn agent_jwt(&self) -> Option<&str> {
        self.agent_identity.as_ref().and_then(|identity| identity.0.as_str())
    }

    /// Whether both stand for the same sign-in in the same state: same kind and secrets. Unknown members and the
    /// time of the last refresh don't count.
    pub fn same_secrets(&self, other: &Self) -> bool {
        self.kind() == other.kind()
            && self.api_key == other.api_key
            && self.personal_access_token == other.personal_access_token
            && match (&self.tokens, &other.tokens) {
                (Some(left), Some(right)) => left.same_secrets(right),
                (left, right) => left.is_none() && right.is_none(),
            }
    }

    /// The same credentials with other tokens, renewed at `now`.
    pub(crate) fn renewed(&self, tokens: Tokens, now: Timestamp) -> Self {
        Self { tokens: Some(tokens), last_refresh: Some(now), ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
