//! The kinds of sign-in.

use serde::{Deserialize, Serialize};

/// The kind of a sign-in. Its words are those of `auth_mode` in `auth.json` (`login.md` 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignInKind {
    /// An API key.
    #[serde(rename = "apikey")]
    ApiKey,
    /// ChatGPT, with tokens that this program refreshes.
    Chatgpt,
    /// ChatGPT, with tokens that an embedding program hands in and keeps fresh.
    ChatgptAuthTokens,
    /// An agent's identity; not supported by this version.
    AgentIdentity,
    /// Ready-made headers; not supported by this version.
    Headers,
    /// A personal access token.
    PersonalAccessToken,
    /// A workload's identity, exchanged for a token that is good for a while; never stored.
    WorkloadIdentity,
    /// A Bedrock key; no credential of this service.
    BedrockApiKey,
    /// Bedrock access keys; no credential of this service.
    BedrockAccessKeys,
}

impl SignInKind {
    /// Whether it has the tokens of a ChatGPT sign-in, whoever refreshes them.
    pub const fn has_chatgpt_tokens(self) -> bool {
        matches!(self, Self::Chatgpt | Self::ChatgptAuthTokens)
    }
}
