//! What a request needs to know of a sign-in: the bearer, the account, and what kind it is.

use crate::claims::Plan;
use crate::credentials::{Credentials, Mode};
use crate::personal_token::PersonalToken;
use crate::secret::{SecretString, same_secret};
use std::sync::Arc;

/// A sign-in, ready to be used by requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auth {
    inner: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    ApiKey(SecretString),
    Chatgpt(Box<Credentials>),
    Personal(SecretString, PersonalToken),
}

/// The kind of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthKind {
    /// An API key.
    ApiKey,
    /// ChatGPT, with tokens that this program refreshes.
    Chatgpt,
    /// ChatGPT, with tokens that an embedding program keeps fresh.
    ChatgptAuthTokens,
    /// A personal access token.
    PersonalAccessToken,
}

impl Auth {
    pub(crate) fn from_api_key(key: SecretString) -> Self {
        Self { inner: Arc::new(Kind::ApiKey(key)) }
    }

    pub(crate) fn from_chatgpt(credentials: Credentials) -> Self {
        Self { inner: Arc::new(Kind::Chatgpt(Box::new(credentials))) }
    }

    pub(crate) fn from_personal_token(token: SecretString, owner: PersonalToken) -> Self {
        Self { inner: Arc::new(Kind::Personal(token, owner)) }
    }

    /// The kind of this sign-in.
    pub fn kind(&self) -> AuthKind {
        match &*self.inner {
            Kind::ApiKey(_) => AuthKind::ApiKey,
            Kind::Personal(..) => AuthKind::PersonalAccessToken,
            Kind::Chatgpt(credentials) if credentials.mode() == Mode::ChatgptAuthTokens => {
                AuthKind::ChatgptAuthTokens
            }
            Kind::Chatgpt(_) => AuthKind::Chatgpt,
        }
    }

    /// The text behind `Bearer `. None for a ChatGPT sign-in without tokens or without `last_refresh` (login.md 6). It may
    /// be empty, which a caller should refuse in its own words.
    pub fn bearer(&self) -> Option<&SecretString> {
        match &*self.inner {
            Kind::ApiKey(key) => Some(key),
            Kind::Personal(token, _) => Some(token),
            Kind::Chatgpt(credentials) => {
                credentials.last_refresh()?;
                credentials.tokens().map(|tokens| tokens.access_token())
            }
        }
    }

    /// The account for `chatgpt-account-id`; none for an API key.
    pub fn account_id(&self) -> Option<&str> {
        match &*self.inner {
            Kind::ApiKey(_) => None,
            Kind::Personal(_, owner) => Some(&owner.account_id),
            Kind::Chatgpt(credentials) => credentials.tokens()?.account_id(),
        }
    }

    /// Whether this is a ChatGPT sign-in of either kind, a personal access token included: everything but an API key.
    pub fn is_chatgpt(&self) -> bool {
        self.kind() != AuthKind::ApiKey
    }

    /// Whether requests carry `x-openai-fedramp: true`.
    pub fn is_fedramp(&self) -> bool {
        match &*self.inner {
            Kind::ApiKey(_) => false,
            Kind::Personal(_, owner) => owner.is_fedramp,
            Kind::Chatgpt(credentials) => {
                credentials.tokens().is_some_and(|tokens| tokens.claims().is_fedramp)
            }
        }
    }

    /// The plan of the account, as far as known.
    pub fn plan(&self) -> Option<&Plan> {
        match &*self.inner {
            Kind::ApiKey(_) => None,
            Kind::Personal(_, owner) => Some(&owner.plan),
            Kind::Chatgpt(credentials) => credentials.tokens()?.claims().plan.as_ref(),
        }
    }

    /// The owner's email, as far as known.
    pub fn email(&self) -> Option<&str> {
        match &*self.inner {
            Kind::ApiKey(_) => None,
            Kind::Personal(_, owner) => owner.email.as_deref(),
            Kind::Chatgpt(credentials) => credentials.tokens()?.claims().email.as_deref(),
        }
    }

    /// The account that the id token claims, which need not be the one that requests name.
    pub(crate) fn claimed_account_id(&self) -> Option<&str> {
        match &*self.inner {
            Kind::Chatgpt(credentials) => credentials.tokens()?.claims().account_id.as_deref(),
            Kind::ApiKey(_) | Kind::Personal(..) => None,
        }
    }

    /// The credentials of a ChatGPT sign-in that this program refreshes.
    pub(crate) fn managed(&self) -> Option<&Credentials> {
        match &*self.inner {
            Kind::Chatgpt(credentials) if credentials.mode() == Mode::Chatgpt => Some(credentials),
            _ => None,
        }
    }

    /// Whether both are the same sign-in in the same state.
    pub fn same_secrets(&self, other: &Self) -> bool {
        match (&*self.inner, &*other.inner) {
            (Kind::ApiKey(left), Kind::ApiKey(right)) => same_secret(left, right),
            (Kind::Personal(left, _), Kind::Personal(right, _)) => same_secret(left, right),
            (Kind::Chatgpt(left), Kind::Chatgpt(right)) => left.same_secrets(right),
            _ => false,
        }
    }
}
