//! Which credentials count, and what sign-in they make (login.md 5, 2.3, 6).

use crate::auth::Auth;
use crate::claims;
use crate::client::HttpClient;
use crate::credentials::StoredCredentials;
use crate::personal_token::{self, PersonalTokenError};
use crate::restrictions::Restrictions;
use crate::store::{Store, StoreError};
use crate::variables::Variables;
use crate::workload::{self, WorkloadError};
use codex_config::{LoginMethod, StoreMode};
use codex_secret::{Secret, SignInKind};

/// What decides which sign-in is used, and how it is looked up and refreshed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where credentials are kept.
    pub store: Store,
    /// What the configuration allows.
    pub restrictions: Restrictions,
    /// What the environment says of sign-in.
    pub variables: Variables,
    /// Whether `CODEX_API_KEY` counts: for commands that use the sign-in, not for those that show it.
    pub use_api_key_variable: bool,
    /// For look-ups and refreshes.
    pub client: HttpClient,
}

/// Why there is a sign-in that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store does not answer, or holds no credentials.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kind is an API key, and there is none.
    #[error("API key auth is missing a key.")]
    NoApiKey,
    /// The kind is a personal access token, and there is none.
    #[error("personal access token auth is missing a personal access token.")]
    NoPersonalToken,
    /// The kind is an agent's identity, and there is none.
    #[error("agent identity auth is missing agent identity auth material.")]
    NoAgentIdentity,
    /// What is taken for an agent's identity, and is none.
    #[error("failed to decode agent identity JWT: invalid agent identity JWT format")]
    NoAgentJwt,
    /// An agent's identity, which this version can't use: how a task is registered with one is not published (9.2).
    #[error(
        "Agent Identity authentication is unavailable: this version can't sign in with it; use `codex login`, an API key \
         or a personal access token"
    )]
    AgentIdentity,
    /// The service does not name the owner of the personal access token.
    #[error(transparent)]
    PersonalToken(#[from] PersonalTokenError),
    /// The environment says that this is a workload, and there is no token for it.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A kind that only other programs know.
    #[error("this version can't use credentials of mode {kind:?}; sign in again with `codex login`")]
    Unsupported {
        /// The kind that this version does not know how to use.
        kind: SignInKind,
    },
    /// The thread that asks the store ended early, as happens when the program stops.
    #[error("the credentials could not be read: the program is stopping")]
    Stopped,
}

impl LoadError {
    /// Why this text, which is no other kind of credential, can't be used as an agent's identity.
    #[must_use]
    pub fn of_agent_identity(text: &str) -> Self {
        let is_jwt = text.split('.').count() == 3 && claims::payload(text).is_ok();
        if is_jwt { Self::AgentIdentity } else { Self::NoAgentJwt }
    }
}

/// Loads the sign-in that counts: a workload's identity where the environment names one, else the first found of `CODEX_API_KEY`, memory, `CODEX_ACCESS_TOKEN` and the store. What
/// the configuration does not allow counts as none. A bad value is an error and hides what comes later.
pub async fn load(settings: &Settings) -> Result<Option<Auth>, LoadError> {
    if settings.variables.workload.is_workload() {
        let token = workload::exchange(&settings.client, &settings.variables.workload).await?;
        return Ok(allowed(settings, Auth::from_workload(token)));
    }
    if settings.use_api_key_variable
        && let Some(key) = &settings.variables.api_key
    {
        return Ok(allowed(settings, Auth::from_api_key(key.clone())));
    }
    if let Some(credentials) = settings.store.load_memory() {
        return from_credentials(settings, credentials).await;
    }
    if let Some(token) = &settings.variables.access_token {
        return from_access_token(settings, token).await;
    }
    if settings.store.mode() == StoreMode::Ephemeral {
        return Ok(None);
    }
    match blocking(settings.store.clone(), |store| store.load()).await? {
        Some(credentials) => from_credentials(settings, credentials).await,
        None => Ok(None),
    }
}

async fn from_credentials(
    settings: &Settings,
    credentials: StoredCredentials,
) -> Result<Option<Auth>, LoadError> {
    let auth = match credentials.kind() {
        SignInKind::ApiKey => Auth::from_api_key(credentials.api_key().ok_or(LoadError::NoApiKey)?.clone()),
        SignInKind::Chatgpt | SignInKind::ChatgptAuthTokens => Auth::from_chatgpt(credentials),
        SignInKind::PersonalAccessToken => {
            let token = credentials.personal_access_token().ok_or(LoadError::NoPersonalToken)?;
            return from_personal_token(settings, token).await;
        }
        SignInKind::AgentIdentity if credentials.has_agent_identity() => {
            return Err(credentials
                .agent_jwt()
                .map_or(LoadError::AgentIdentity, LoadError::of_agent_identity));
        }
        SignInKind::AgentIdentity => return Err(LoadError::NoAgentIdentity),
        kind @ (SignInKind::Headers
        | SignInKind::WorkloadIdentity
        | SignInKind::BedrockApiKey
        | SignInKind::BedrockAccessKeys) => {
            return Err(LoadError::Unsupported { kind });
        }
    };
    Ok(allowed(settings, auth))
}

async fn from_access_token(settings: &Settings, token: &Secret) -> Result<Option<Auth>, LoadError> {
    if token.expose().starts_with(personal_token::PREFIX) {
        from_personal_token(settings, token).await
    } else {
        Err(LoadError::of_agent_identity(token.expose()))
    }
}

async fn from_personal_token(settings: &Settings, token: &Secret) -> Result<Option<Auth>, LoadError> {
    if !settings.restrictions.allow_method(LoginMethod::Chatgpt) {
        return Ok(None);
    }
    let owner = personal_token::look_up(&settings.client, &settings.variables, token).await?;
    Ok(allowed(settings, Auth::from_personal_token(token.clone(), owner)))
}

fn allowed(settings: &Settings, auth: Auth) -> Option<Auth> {
    settings.restrictions.allow(&auth).then_some(auth)
}

/// Runs a call of the store where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    store: Store,
    call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, LoadError> {
    let call = tokio::task::spawn_blocking(move || call(&store));
    Ok(call.await.map_err(|_| LoadError::Stopped)??)
}
