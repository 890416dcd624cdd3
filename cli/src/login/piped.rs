//! Signs in with what is piped to standard input: an API key, or an access token (login.md 8.1, 8.2).

use std::fmt::Display;

use codex_config::LoginMethod;
use codex_login::{LoadError, Secret, StoredCredentials, personal_token, signin};

use super::context::Context;
use super::refusal::{API_KEY_DISABLED, CHATGPT_DISABLED, Refusal};
use super::save::save;
use super::secret_input::{self, SecretInput};
use crate::output;
use crate::setup::Setup;

pub(super) async fn with_api_key(setup: &Setup) -> Result<u8, Refusal> {
    let key = secret_input::read(&SecretInput {
        what: "API key",
        flag: "--with-api-key",
        variable: "OPENAI_API_KEY",
    })?;
    let context = Context::load(setup, "login with an API key")?;
    if !context.settings.restrictions.allow_method(LoginMethod::Api) {
        return Err(Refusal::new(API_KEY_DISABLED));
    }
    let failed = |error: LoadError| Refusal::new(format!("Error logging in: {error}"));
    save(context.settings.store, StoredCredentials::from_api_key(key)).await.map_err(failed)?;
    output::note("API key saved. Authentication is checked when you send a request.");
    Ok(0)
}

pub(super) async fn with_access_token(setup: &Setup) -> Result<u8, Refusal> {
    let token = secret_input::read(&SecretInput {
        what: "access token",
        flag: "--with-access-token",
        variable: "CODEX_ACCESS_TOKEN",
    })?;
    let context = Context::load(setup, "login with an access token")?;
    if !context.settings.restrictions.allow_method(LoginMethod::Chatgpt) {
        return Err(Refusal::new(CHATGPT_DISABLED));
    }
    let failed = |error: &dyn Display| Refusal::new(format!("Error logging in with access token: {error}"));
    let credentials = personal_token(&context, token).await.map_err(|error| failed(&error))?;
    save(context.settings.store, credentials).await.map_err(|error| failed(&error))?;
    output::note("Successfully logged in");
    Ok(0)
}

/// The credentials of a personal access token, once the service has named its owner and the account is allowed.
async fn personal_token(context: &Context, token: Secret) -> Result<StoredCredentials, TokenError> {
    if !token.expose().starts_with(personal_token::PREFIX) {
        return Err(LoadError::of_agent_identity(token.expose()).into());
    }
    let settings = &context.settings;
    let owner = personal_token::look_up(&settings.client, &settings.variables, &token)
        .await
        .map_err(LoadError::from)?;
    match &settings.restrictions.workspaces {
        Some(allowed) if !settings.restrictions.allow_workspace(Some(&owner.account_id)) => {
            Err(signin::Failure::Workspace(allowed.clone()).into())
        }
        _ => Ok(StoredCredentials::from_personal_access_token(token)),
    }
}

/// Why a personal access token can't be used.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Restricted(#[from] signin::Failure),
}
