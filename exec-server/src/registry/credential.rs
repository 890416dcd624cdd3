//! What an executor proves itself with. Where it comes from is the caller's business.

use async_trait::async_trait;
use codex_secret::{Secret, SignInKind};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::contract::Contract;
use super::error::{Cause, RemoteError};
use crate::bearer;

/// Where a credential comes from, which decides what it may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialOrigin {
    /// The sign-in that all programs of this kind share, or `CODEX_API_KEY`.
    SignIn(SignInKind),
    /// The variable [`BEARER_VARIABLE`].
    Variable,
    /// A line of stdin.
    Stdin,
    /// Keys of AWS, which sign and are never sent.
    Aws,
}

impl CredentialOrigin {
    /// An API key, stored or from `CODEX_API_KEY`.
    pub(super) const API_KEY: Self = Self::SignIn(SignInKind::ApiKey);
    /// A personal access token.
    const PERSONAL_TOKEN: Self = Self::SignIn(SignInKind::PersonalAccessToken);

    /// Whether it is a ChatGPT sign-in, whoever refreshes its tokens.
    fn is_chatgpt(self) -> bool {
        matches!(self, Self::SignIn(kind) if kind.has_chatgpt_tokens())
    }

    /// Whether both are the same for a registry.
    fn is_like(self, other: Self) -> bool {
        self == other || (self.is_chatgpt() && other.is_chatgpt())
    }
}

/// The variable of contract C, which ours also takes for D and E.
pub const BEARER_VARIABLE: &str = "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN";

/// A bearer and what goes with it.
#[derive(Clone)]
pub struct Credential {
    /// Where it comes from.
    pub origin: CredentialOrigin,
    /// The token itself, without `Bearer `.
    pub bearer: Secret,
    /// The account of a ChatGPT sign-in.
    pub account_id: Option<String>,
    /// Whether the account is a FedRAMP one.
    pub fedramp: bool,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why there is no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCredential {
    /// Nobody is signed in, or nothing readable is stored.
    SignedOut,
    /// Somebody is signed in, but what is stored yields no bearer.
    NoBearer,
    /// [`BEARER_VARIABLE`] is set, but blank.
    BlankVariable,
}

/// What came of an attempt to recover from a refusal.
#[derive(Debug)]
pub enum Recovery {
    /// There is another credential now.
    Renewed(Credential),
    /// The stored credential is still the same account's, but nothing newer was to be had.
    Unchanged(Credential),
    /// What is stored now is another account's, or nothing.
    Mismatch,
    /// This kind of credential can't be recovered.
    Unavailable,
}

/// Yields credentials and is told when one was refused.
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// The credential to use now, renewed when it was due.
    async fn current(&self) -> Result<Credential, NoCredential>;

    /// Reads again what is stored: somebody may have signed in meanwhile.
    async fn read_again(&self);

    /// `refused` was refused: looks for a newer one of the same account, in the store and then at its issuer.
    async fn recover(&self, refused: &Credential) -> Recovery;
}

/// One credential for ever: a bearer from a variable or from stdin, or the token of a ChatGPT sign-in.
#[derive(Debug)]
pub struct Fixed(Result<Credential, NoCredential>);

impl Fixed {
    /// The bearer from there; blank text yields none.
    pub fn new(origin: CredentialOrigin, text: &Secret) -> Self {
        // Some editors put a byte-order mark before all that they save.
        let bearer = text.expose().trim_start_matches('\u{feff}').trim();
        if bearer.is_empty() {
            return Self(Err(match origin {
                CredentialOrigin::Variable => NoCredential::BlankVariable,
                _ => NoCredential::NoBearer,
            }));
        }
        Self(Ok(Credential { origin, bearer: bearer.into(), account_id: None, fedramp: false }))
    }
}

impl Fixed {
    /// The access token of a ChatGPT sign-in that somebody else keeps fresh, and its account.
    pub fn chatgpt(token: &Secret, account_id: Option<String>) -> Self {
        let Self(token) = Self::new(CredentialOrigin::SignIn(SignInKind::ChatgptAuthTokens), token);
        Self(token.map(|credential| Credential { account_id, ..credential }))
    }
}

#[async_trait]
impl CredentialSource for Fixed {
    async fn current(&self) -> Result<Credential, NoCredential> {
        self.0.clone()
    }

    async fn read_again(&self) {}

    async fn recover(&self, _refused: &Credential) -> Recovery {
        Recovery::Unavailable
    }
}

/// Gets a credential that fits the contract (2.2, 3, `login.md` 7.4).
pub(super) async fn fitting(
    contract: Contract,
    credentials: &dyn CredentialSource,
) -> Result<Credential, RemoteError> {
    let found = credentials.current().await;
    if contract == Contract::Cloud && waits_for_sign_in(&found) {
        credentials.read_again().await;
        return checked(contract, credentials.current().await);
    }
    checked(contract, found)
}

fn waits_for_sign_in(found: &Result<Credential, NoCredential>) -> bool {
    match found {
        Ok(credential) => credential.origin.is_chatgpt() && !has_account(credential),
        Err(problem) => *problem == NoCredential::SignedOut,
    }
}

fn has_account(credential: &Credential) -> bool {
    credential.account_id.as_ref().is_some_and(|account| !account.is_empty())
}

/// Refuses what the contract doesn't take, in its own words.
fn checked(contract: Contract, found: Result<Credential, NoCredential>) -> Result<Credential, RemoteError> {
    let credential = found.map_err(|problem| missing(contract, problem))?;
    match (contract, credential.origin) {
        (Contract::Cloud, CredentialOrigin::API_KEY) => {
            return Err(cloud(
                "cloud environments require ChatGPT authentication; API key auth is not supported",
            ));
        }
        (Contract::Cloud, origin) if !origin.is_chatgpt() => {
            return Err(cloud("cloud environments require ChatGPT authentication"));
        }
        (Contract::Executor, CredentialOrigin::API_KEY | CredentialOrigin::PERSONAL_TOKEN) => {
            return Err(plain(
                "remote exec-server registration requires ChatGPT authentication; \
                 API key and Agent Identity auth are not supported",
            ));
        }
        _ => {}
    }
    if credential.bearer.is_blank() {
        return Err(match contract {
            Contract::Cloud => cloud("cloud environments require a non-empty ChatGPT bearer token"),
            _ => unusable(contract, "executor credential has an empty bearer"),
        });
    }
    if contract == Contract::Cloud && !has_account(&credential) {
        return Err(cloud("cloud environments are waiting for a ChatGPT account id"));
    }
    Ok(credential)
}

fn missing(contract: Contract, problem: NoCredential) -> RemoteError {
    const SIGN_IN: &str =
        "remote exec-server registration requires ChatGPT authentication; run `codex login` first";
    match (contract, problem) {
        (_, NoCredential::BlankVariable) => plain(format!(
            "{0} authentication error: {0} bearer token environment variable `{BEARER_VARIABLE}` is empty",
            contract.service()
        )),
        (Contract::Cloud, NoCredential::SignedOut) => {
            cloud("cloud environments require ChatGPT authentication")
        }
        (Contract::Cloud, NoCredential::NoBearer) => {
            cloud("cloud environments require a non-empty ChatGPT bearer token")
        }
        // The first words are 0.131's, which knew the variable only; the cause names the newer way.
        (Contract::Executor, NoCredential::SignedOut) => RemoteError::Credential(
            format!(
                "executor registry authentication error: executor registry bearer token environment variable \
                 `{BEARER_VARIABLE}` is not set"
            ),
            Some(Cause::new(SIGN_IN)),
        ),
        // Likewise; released executors have no such variable for these contracts.
        (Contract::Environment | Contract::Noise | Contract::Direct, NoCredential::SignedOut) => {
            RemoteError::Credential(
                "remote exec-server registration requires ChatGPT authentication or API key authentication; \
             run `codex login` or set CODEX_API_KEY"
                    .to_owned(),
                Some(Cause::new(format!(
                    "there is no sign-in; for a registry of one's own, set {BEARER_VARIABLE} to its access token"
                ))),
            )
        }
        (_, NoCredential::NoBearer) => unusable(contract, "executor credential has no usable bearer"),
    }
}

fn cloud(problem: &str) -> RemoteError {
    plain(format!("cloud environment authentication error: {problem}"))
}

fn unusable(contract: Contract, problem: &str) -> RemoteError {
    plain(format!(
        "{0} authentication error: failed to resolve {0} authentication: request auth build error: {problem}",
        contract.service()
    ))
}

fn plain(text: impl Into<String>) -> RemoteError {
    RemoteError::Credential(text.into(), None)
}

/// The headers that carry a credential.
pub(super) fn headers(contract: Contract, credential: &Credential) -> Result<HeaderMap, RemoteError> {
    let unfit = || unusable(contract, "the credential holds characters that a header can't carry");
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer::header(credential.bearer.expose()).map_err(|_| unfit())?);
    if let Some(account) = credential.account_id.as_ref().filter(|account| !account.is_empty()) {
        headers.insert("chatgpt-account-id", HeaderValue::from_str(account).map_err(|_| unfit())?);
    }
    if credential.fedramp {
        headers.insert("x-openai-fedramp", HeaderValue::from_static("true"));
    }
    Ok(headers)
}

/// Whether a recovered credential is worth another request (2.2, `login.md` 7.4).
pub(super) fn next_try(contract: Contract, refused: &Credential, recovery: Recovery) -> NextTry {
    match recovery {
        Recovery::Renewed(new)
            if contract == Contract::Cloud
                || (new.bearer != refused.bearer
                    && new.origin.is_like(refused.origin)
                    && new.fedramp == refused.fedramp) =>
        {
            NextTry::With(new)
        }
        // A's one step is the reload: whatever token is current goes once more.
        Recovery::Unchanged(same) if contract == Contract::Cloud => NextTry::With(same),
        Recovery::Mismatch => NextTry::None { mismatch: true },
        Recovery::Renewed(_) | Recovery::Unchanged(_) | Recovery::Unavailable => {
            NextTry::None { mismatch: false }
        }
    }
}

/// What follows a refusal.
#[derive(Debug)]
pub(super) enum NextTry {
    /// The same request with this credential.
    With(Credential),
    /// The refusal stands: there is no other credential to try.
    None {
        /// The stored credential is not the refused account's any more.
        mismatch: bool,
    },
}
