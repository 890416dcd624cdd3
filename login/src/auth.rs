//! What a request needs to know of a sign-in: the bearer, the account, and what kind it is.

use crate::claims::Plan;
use crate::credentials::StoredCredentials;
use crate::personal_token::PersonalToken;
use crate::workload::WorkloadToken;
use codex_secret::{Secret, SignInKind};
use std::sync::Arc;

/// A sign-in, ready to be used by requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auth {
    material: Arc<Material>,
}

/// What a sign-in is made of.
#[derive(Debug)]
enum Material {
    ApiKey(Secret),
    Chatgpt(Box<StoredCredentials>),
    Personal(Secret, PersonalToken),
    Workload(WorkloadToken),
}

impl Auth {
    pub(crate) fn from_api_key(key: Secret) -> Self {
        Self { material: Arc::new(Material::ApiKey(key)) }
    }

    pub(crate) fn from_chatgpt(credentials: StoredCredentials) -> Self {
        Self { material: Arc::new(Material::Chatgpt(Box::new(credentials))) }
    }

    pub(crate) fn from_personal_token(token: Secret, owner: PersonalToken) -> Self {
        Self { material: Arc::new(Material::Personal(token, owner)) }
    }

    pub(crate) fn from_workload(token: WorkloadToken) -> Self {
        Self { material: Arc::new(Material::Workload(token)) }
    }

    /// The kind of this sign-in.
    pub fn kind(&self) -> SignInKind {
        match &*self.material {
            Material::ApiKey(_) => SignInKind::ApiKey,
            Material::Personal(..) => SignInKind::PersonalAccessToken,
            Material::Workload(_) => SignInKind::WorkloadIdentity,
            Material::Chatgpt(credentials) if credentials.kind() == SignInKind::ChatgptAuthTokens => {
                SignInKind::ChatgptAuthTokens
            }
            Material::Chatgpt(_) => SignInKind::Chatgpt,
        }
    }

    /// The text behind `Bearer `. None for a ChatGPT sign-in without tokens or without `last_refresh` (login.md 6). It may
    /// be empty, which a caller should refuse in its own words.
    pub fn bearer(&self) -> Option<&Secret> {
        match &*self.material {
            Material::ApiKey(key) => Some(key),
            Material::Personal(token, _) => Some(token),
            Material::Workload(token) => Some(&token.bearer),
            Material::Chatgpt(credentials) => {
                credentials.last_refresh()?;
                credentials.tokens().map(|tokens| tokens.access_token())
            }
        }
    }

    /// The account for `chatgpt-account-id`; none for an API key.
    pub fn account_id(&self) -> Option<&str> {
        match &*self.material {
            Material::ApiKey(_) => None,
            Material::Personal(_, owner) => Some(&owner.account_id),
            Material::Workload(token) => token.claims.account_id.as_deref(),
            Material::Chatgpt(credentials) => credentials.tokens()?.account_id(),
        }
    }

    /// Whether this is a ChatGPT sign-in of either kind, a personal access token included: everything but an API key.
    pub fn is_chatgpt(&self) -> bool {
        self.kind() != SignInKind::ApiKey
    }

    /// Whether requests carry `x-openai-fedramp: true`.
    pub fn is_fedramp(&self) -> bool {
        match &*self.material {
            Material::ApiKey(_) => false,
            Material::Personal(_, owner) => owner.is_fedramp,
            Material::Workload(token) => token.claims.is_fedramp,
            Material::Chatgpt(credentials) => {
                credentials.tokens().is_some_and(|tokens| tokens.claims().is_fedramp)
            }
        }
    }

    /// The plan of the account, as far as known.
    pub fn plan(&self) -> Option<&Plan> {
        match &*self.material {
            Material::ApiKey(_) => None,
            Material::Personal(_, owner) => Some(&owner.plan),
            Material::Workload(token) => token.claims.plan.as_ref(),
            Material::Chatgpt(credentials) => credentials.tokens()?.claims().plan.as_ref(),
        }
    }

    /// The owner's email, as far as known.
    pub fn email(&self) -> Option<&str> {
        match &*self.material {
            Material::ApiKey(_) => None,
            Material::Personal(_, owner) => owner.email.as_deref(),
            Material::Workload(token) => token.claims.email.as_deref(),
            Material::Chatgpt(credentials) => credentials.tokens()?.claims().email.as_deref(),
        }
    }

    /// The account that the id token claims, which need not be the one that requests name.
    pub(crate) fn claimed_account_id(&self) -> Option<&str> {
        match &*self.material {
            Material::Chatgpt(credentials) => credentials.tokens()?.claims().account_id.as_deref(),
            Material::ApiKey(_) | Material::Personal(..) | Material::Workload(_) => None,
        }
    }

    /// The token of a workload's identity.
    pub(crate) fn workload(&self) -> Option<&WorkloadToken> {
        match &*self.material {
            Material::Workload(token) => Some(token),
            _ => None,
        }
    }

    /// The credentials of a ChatGPT sign-in that this program refreshes.
    pub(crate) fn managed(&self) -> Option<&StoredCredentials> {
        match &*self.material {
            Material::Chatgpt(credentials) if credentials.kind() == SignInKind::Chatgpt => Some(credentials),
            _ => None,
        }
    }

    /// Whether both are the same sign-in in the same state.
    pub fn same_secrets(&self, other: &Self) -> bool {
        match (&*self.material, &*other.material) {
            (Material::ApiKey(left), Material::ApiKey(right)) => left == right,
            (Material::Personal(left, _), Material::Personal(right, _)) => left == right,
            (Material::Workload(left), Material::Workload(right)) => left.bearer == right.bearer,
            (Material::Chatgpt(left), Material::Chatgpt(right)) => left.same_secrets(right),
            _ => false,
        }
    }
}
