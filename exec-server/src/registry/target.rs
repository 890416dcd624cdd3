//! Where a registry is and what is registered there, checked before anything is sent (1.1).

use codex_exec_protocol::EnvironmentId;
use codex_exec_protocol::ids::NoEnvironmentId;
use codex_outgoing::is_loopback;
use url::{Host, Url};

use super::contract::Contract;
use super::credential::CredentialOrigin;
use super::error::{Cause, RemoteError};

/// A checked base URL, contract and id.
#[derive(Debug, Clone)]
pub struct Target {
    contract: Contract,
    base: String,
    id: Option<EnvironmentId>,
}

impl Target {
    /// Trims and checks. `id` is the environment's or, for [`Contract::Executor`], the executor's; only
    /// [`Contract::Cloud`] goes without.
    ///
    /// # Errors
    /// An empty or unusable base URL, a missing or malformed id.
    pub fn new(contract: Contract, base: &str, id: Option<&str>) -> Result<Self, RemoteError> {
        let wrong = |problem: String| RemoteError::Configuration { contract, problem };
        let base = base.trim().trim_end_matches('/').to_owned();
        if base.is_empty() {
            return Err(wrong(format!("{} base URL is required", contract.service())));
        }
        let noun = contract.id_noun();
        let id = match id.map(str::trim) {
            None if contract == Contract::Cloud => None,
            None | Some("") => {
                return Err(wrong(format!("{noun} is required for remote exec-server registration")));
            }
            Some(id) => Some(id.parse().map_err(|error: NoEnvironmentId| {
                let shown: String = id.chars().take(60).collect();
                wrong(format!("{noun} {shown:?} can't be used: {error}"))
            })?),
        };
        let target = Self { contract, base, id };
        if let Ok(url) = Url::parse(&target.base) {
            target.check_parts(&url)?;
        }
        Ok(target)
    }

    fn check_parts(&self, url: &Url) -> Result<(), RemoteError> {
        let problem = if !matches!(url.scheme(), "http" | "https") {
            format!("the base URL has the scheme {:?}; use https", url.scheme())
        } else if !url.username().is_empty() || url.password().is_some() {
            "the base URL must not hold a user name or password".to_owned()
        } else if url.query().is_some() || url.fragment().is_some() {
            "the base URL must have neither query nor fragment".to_owned()
        } else {
            return Ok(());
        };
        Err(RemoteError::Configuration { contract: self.contract, problem })
    }

    /// How this registry and its executors deal with each other.
    pub const fn contract(&self) -> Contract {
        self.contract
    }

    /// The id to register under; none where the registry makes one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().map(EnvironmentId::as_str)
    }

    /// Whether requests need TLS.
    pub(crate) fn is_secure(&self) -> bool {
        Url::parse(&self.base).is_ok_and(|url| url.scheme() == "https")
    }

    /// Whether the registry is on this machine and asked without TLS.
    pub fn is_local(&self) -> bool {
        Url::parse(&self.base).is_ok_and(|url| url.scheme() == "http" && is_loopback(&url))
    }

    /// The URL of the registration.
    pub(crate) fn registration(&self, origin: CredentialOrigin) -> Result<Url, RemoteError> {
        let id = self.id().unwrap_or_default();
        self.url(
            origin,
            &match self.contract {
                Contract::Cloud => "/api/cloud/executor".to_owned(),
                Contract::Executor => format!("/cloud/executor/{id}/register"),
                Contract::Environment | Contract::Noise => format!("/cloud/environment/{id}/register"),
                Contract::Direct => format!("/cloud/environment/{id}/direct/register"),
            },
        )
    }

    /// The URL of 6.3.
    pub(crate) fn validation(&self, origin: CredentialOrigin) -> Result<Url, RemoteError> {
        self.url(origin, &format!("/cloud/environment/{}/validate", self.id().unwrap_or_default()))
    }

    /// The URL of a request with a credential of this origin, if it may go there.
    fn url(&self, origin: CredentialOrigin, path: &str) -> Result<Url, RemoteError> {
        let url =
            Url::parse(&format!("{}{path}", self.base)).map_err(|error| self.not_absolute(origin, error))?;
        self.permit(origin, &url)?;
        Ok(url)
    }

    fn not_absolute(&self, origin: CredentialOrigin, error: url::ParseError) -> RemoteError {
        let newer = matches!(self.contract, Contract::Environment | Contract::Noise);
        if newer && origin == CredentialOrigin::API_KEY {
            return RemoteError::Url(error);
        }
        let cause = Some(Cause::new(error.to_string()));
        RemoteError::BadUrl { contract: self.contract, cause }
    }

    /// Which host a credential may be sent to: https off loopback. Contract C's variable goes anywhere, an API key only
    /// to its provider (section 3).
    fn permit(&self, origin: CredentialOrigin, url: &Url) -> Result<(), RemoteError> {
        let loopback = is_loopback(url);
        match origin {
            CredentialOrigin::Variable if self.contract == Contract::Executor => Ok(()),
            CredentialOrigin::API_KEY if loopback || (url.scheme() == "https" && is_provider(url)) => Ok(()),
            CredentialOrigin::API_KEY => Err(RemoteError::Credential(
                "remote exec-server API-key authentication is restricted to HTTPS openai.com and openai.org hosts \
                 and subdomains or loopback hosts"
                    .to_owned(),
                None,
            )),
            _ if loopback || url.scheme() == "https" => Ok(()),
            _ => Err(RemoteError::Configuration {
                contract: self.contract,
                problem: "remote transport requires https for non-loopback endpoints".to_owned(),
            }),
        }
    }
}

fn is_provider(url: &Url) -> bool {
    let Some(Host::Domain(name)) = url.host() else { return false };
    ["openai.com", "openai.org"].iter().any(|provider| {
        name.strip_suffix(provider).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}
