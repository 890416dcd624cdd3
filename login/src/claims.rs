//! What is read from a token's payload: account, plan and expiry (login.md 4). No signature is checked.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The claim that holds what the service says of the account.
pub const AUTH_CLAIM: &str = "https://api.openai.com/auth";
/// The claim that may hold the email when the token has none at the top.
const PROFILE_CLAIM: &str = "https://api.openai.com/profile";

/// Why a token's payload can't be used. Never shows any part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Fewer than three parts, or an empty one among them.
    #[error("invalid ID token format")]
    Format,
    /// The payload is not base64url without padding.
    #[error("invalid ID token encoding")]
    Encoding,
    /// The payload is no JSON object, or a claim has another type than the service gives it.
    #[error("invalid ID token claims")]
    Json,
}

/// What an id token says of its owner. Every member may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdClaims {
    /// `email`, else the profile's.
    pub email: Option<String>,
    /// `chatgpt_plan_type`.
    pub plan: Option<Plan>,
    /// `chatgpt_user_id`, else `user_id`.
    pub user_id: Option<String>,
    /// `chatgpt_account_id`: the account, also called the workspace.
    pub account_id: Option<String>,
    /// `chatgpt_account_is_fedramp`; false when missing.
    pub is_fedramp: bool,
    /// Whether the token has an object of account claims at all; a sign-in without it gets a line on stderr.
    pub has_account_claims: bool,
}

/// A plan, as the service names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// `free`
    Free,
    /// `go`
    Go,
    /// `plus`
    Plus,
    /// `pro`
    Pro,
    /// `prolite`
    ProLite,
    /// `team`
    Team,
    /// `self_serve_business_usage_based`
    SelfServeBusinessUsageBased,
    /// `business`
    Business,
    /// `enterprise_cbp_usage_based`
    EnterpriseCbpUsageBased,
    /// `enterprise`, also `hc`
    Enterprise,
    /// `edu`, also `education`
    Edu,
    /// Any other word, as it came.
    Unknown(String),
}

impl From<String> for Plan {
    fn from(word: String) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "free" => Self::Free,
            "go" => Self::Go,
            "plus" => Self::Plus,
            "pro" => Self::Pro,
            "prolite" => Self::ProLite,
            "team" => Self::Team,
            "self_serve_business_usage_based" => Self::SelfServeBusinessUsageBased,
            "business" => Self::Business,
            "enterprise_cbp_usage_based" => Self::EnterpriseCbpUsageBased,
            "enterprise" | "hc" => Self::Enterprise,
            "edu" | "education" => Self::Edu,
            _ => Self::Unknown(word),
        }
    }
}

#[derive(Deserialize)]
struct AccountClaims {
    chatgpt_plan_type: Option<String>,
    chatgpt_user_id: Option<String>,
    user_id: Option<String>,
    chatgpt_account_id: Option<String>,
    chatgpt_account_is_fedramp: Option<bool>,
}

#[derive(Deserialize)]
struct ProfileClaims {
    email: Option<String>,
}

impl IdClaims {
    /// Reads an id token. A claim of the wrong type makes the whole token unusable.
    pub fn read(jwt: &str) -> Result<Self, ClaimsError> {
        let mut payload = payload(jwt)?;
        let email: Option<String> = take(&mut payload, "email")?;
        let profile: Option<ProfileClaims> = take_object(&mut payload, PROFILE_CLAIM)?;
        let account: Option<AccountClaims> = take_object(&mut payload, AUTH_CLAIM)?;
        let email = email.or_else(|| profile.and_then(|profile| profile.email));
        Ok(match account {
            None => Self { email, ..Self::default() },
            Some(account) => Self {
                email,
                plan: account.chatgpt_plan_type.map(Plan::from),
                user_id: account.chatgpt_user_id.or(account.user_id),
                account_id: account.chatgpt_account_id,
                is_fedramp: account.chatgpt_account_is_fedramp.unwrap_or(false),
                has_account_claims: true,
            },
        })
    }
}

/// When an access token ends, if it is a JWT that says so. An opaque token has no expiry.
pub fn access_expiry(token: &str) -> Option<Timestamp> {
    let seconds = payload(token).ok()?.get("exp")?.as_i64()?;
    Timestamp::from_second(seconds).ok()
}

/// The payload of a JWT, unverified. For claims beyond those of [`IdClaims`].
pub fn payload(jwt: &str) -> Result<Map<String, Value>, ClaimsError> {
    let mut parts = jwt.split('.');
    let (Some(header), Some(payload), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(ClaimsError::Format);
    };
    if header.is_empty() || payload.is_empty() || signature.is_empty() {
        return Err(ClaimsError::Format);
    }
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).map_err(|_| ClaimsError::Encoding)?;
    serde_json::from_slice(&bytes).map_err(|_| ClaimsError::Json)
}

fn take<T: for<'de> Deserialize<'de>>(
    payload: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, ClaimsError> {
    payload
        .remove(name)
        .map_or(Ok(None), |value| serde_json::from_value::<Option<T>>(value).map_err(|_| ClaimsError::Json))
}

/// Like [`take`], for objects: serde would take an array for a struct as well.
fn take_object<T: for<'de> Deserialize<'de>>(
    payload: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, ClaimsError> {
    match payload.get(name) {
        Some(value) if !value.is_object() && !value.is_null() => Err(ClaimsError::Json),
        _ => take(payload, name),
    }
}

#[cfg(test)]
mod tests;
