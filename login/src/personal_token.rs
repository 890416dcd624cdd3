//! Personal access tokens: the service is asked for their owner each time they are loaded (login.md 9.1).

use crate::claims::Plan;
use crate::client::{ClientError, HttpClient};
use crate::http_error;
use crate::variables::Variables;
use codex_secret::Secret;

/// What a personal access token begins with.
pub const PREFIX: &str = "at-";
const DEFAULT_BASE_URL: &str = "https://auth.openai.com/api/accounts";

/// The owner of a personal access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonalToken {
    /// The owner's email; may be unknown.
    pub email: Option<String>,
    /// Id of the user.
    pub user_id: String,
    /// The account that requests name.
    pub account_id: String,
    /// The account's plan.
    pub plan: Plan,
    /// Whether requests carry the FedRAMP mark.
    pub is_fedramp: bool,
}

/// Why the owner of a personal access token is not known.
#[derive(Debug, thiserror::Error)]
pub enum PersonalTokenError {
    /// The service did not answer.
    #[error("failed to request personal access token metadata: {0}")]
    Request(String),
    /// The service answered with an error.
    #[error("personal access token metadata request failed with status {0}")]
    Status(reqwest::StatusCode),
    /// The answer is not what it should be.
    #[error("failed to decode personal access token metadata: {0}")]
    Decode(String),
}

impl From<ClientError> for PersonalTokenError {
    fn from(error: ClientError) -> Self {
        Self::Request(error.to_string())
    }
}

#[derive(serde::Deserialize)]
struct TokenOwner {
    email: Option<String>,
    chatgpt_user_id: String,
    chatgpt_account_id: String,
    chatgpt_plan_type: String,
    chatgpt_account_is_fedramp: bool,
}

/// Asks the service for the owner of `token`.
pub async fn look_up(
    client: &HttpClient,
    variables: &Variables,
    token: &Secret,
) -> Result<PersonalToken, PersonalTokenError> {
    let base = variables.authapi_base_url.as_deref().unwrap_or(DEFAULT_BASE_URL).trim_end_matches('/');
    client.prepare().await?;
    let answer = client
        .plain()?
        .get(format!("{base}/v1/user-auth-credential/whoami"))
        .headers(client.named_headers()?)
        .bearer_auth(token.expose())
        .send()
        .await
        .map_err(|error| PersonalTokenError::Request(http_error::cause(error)))?;
    if !answer.status().is_success() {
        return Err(PersonalTokenError::Status(answer.status()));
    }
    let body = http_error::body(answer).await.map_err(PersonalTokenError::Request)?;
    let answer: TokenOwner = serde_json::from_slice(&body)
        .map_err(|error| PersonalTokenError::Decode(http_error::json_place(&error)))?;
    Ok(PersonalToken {
        email: answer.email,
        user_id: answer.chatgpt_user_id,
        account_id: answer.chatgpt_account_id,
        plan: Plan::from(answer.chatgpt_plan_type),
        is_fedramp: answer.chatgpt_account_is_fedramp,
    })
}
