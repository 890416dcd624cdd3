//! What `auth.json` and the keyring hold: credentials in each of the modes (login.md 2).

mod document;
mod time;
mod tokens;

pub use document::DocumentError;
pub use tokens::{Provenance, Tokens, new_login_owner_id};

use crate::secret::{Opaque, SecretString, Unknown, same_secret};
use jiff::Timestamp;

/// What kind of sign-in credentials stand for: `auth_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// An API key.
    #[serde(rename = "apikey")]
    ApiKey,
    /// Sign-in with ChatGPT; this program refreshes the tokens.
    Chatgpt,
    /// ChatGPT tokens that an embedding program hands in and keeps fresh.
    ChatgptAuthTokens,
    /// An agent's identity; not supported by this version.
    AgentIdentity,
    /// Ready-made headers; not supported by this version.
    Headers,
    /// A personal access token.
    PersonalAccessToken,
    /// A Bedrock key; no credential of this service.
    BedrockApiKey,
    /// Bedrock access keys; no credential of this service.
    BedrockAccessKeys,
}

/// Credentials of any mode, with every member that the document had, known or not.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    auth_mode: Option<Mode>,
    api_key: Option<SecretString>,
    tokens: Option<Tokens>,
    last_refresh: Option<Timestamp>,
    agent_identity: Option<Opaque>,
    personal_access_token: Option<SecretString>,
    bedrock_api_key: Option<Opaque>,
    bedrock_access_keys: Option<Opaque>,
    unknown: Unknown,
}

impl Credentials {
    /// Credentials that are an API key.
    pub fn from_api_key(key: SecretString) -> Self {
        Self { auth_mode: Some(Mode::ApiKey), api_key: Some(key), ..Self::default() }
    }

    /// Credentials of a ChatGPT sign-in, with the API key that was exchanged for it, if one was.
    pub fn from_chatgpt(tokens: Tokens, api_key: Option<SecretString>, last_refresh: Timestamp) -> Self {
        Self {
            auth_mode: Some(Mode::Chatgpt),
            api_key,
            tokens: Some(tokens),
            last_refresh: Some(last_refresh),
            ..Self::default()
        }
    }

    /// Credentials that are a personal access token. The document has no `auth_mode` then (login.md 2.1).
    pub fn from_personal_access_token(token: SecretString) -> Self {
        Self { personal_access_token: Some(token), ..Self::default() }
    }

    /// The kind of sign-in: as the document says, else by what it holds (login.md 2.2).
    pub fn mode(&self) -> Mode {
        match self.auth_mode {
            Some(mode) => mode,
            None if self.personal_access_token.is_some() => Mode::PersonalAccessToken,
            None if self.bedrock_api_key.is_some() => Mode::BedrockApiKey,
            None if self.bedrock_access_keys.is_some() => Mode::BedrockAccessKeys,
            None if self.api_key.is_some() => Mode::ApiKey,
            None => Mode::Chatgpt,
        }
    }

    /// `OPENAI_API_KEY`. Present in a ChatGPT sign-in too, where it does not count.
    pub fn api_key(&self) -> Option<&SecretString> {
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
    pub fn personal_access_token(&self) -> Option<&SecretString> {
        self.personal_access_token.as_ref()
    }

    /// Whether the document has an agent's identity.
    pub fn has_agent_identity(&self) -> bool {
        self.agent_identity.is_some()
    }

    /// Whether both stand for the same sign-in in the same state: same mode and secrets. Unknown members and the
    /// time of the last refresh don't count.
    pub fn same_secrets(&self, other: &Self) -> bool {
        self.mode() == other.mode()
            && same(self.api_key.as_ref(), other.api_key.as_ref())
            && same(self.personal_access_token.as_ref(), other.personal_access_token.as_ref())
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

fn same(left: Option<&SecretString>, right: Option<&SecretString>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same_secret(left, right),
        (left, right) => left.is_none() && right.is_none(),
    }
}

#[cfg(test)]
mod tests;
