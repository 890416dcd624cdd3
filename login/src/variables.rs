//! The environment variables that sign-in listens to (login.md 5), handed over by the binary as values.

use codex_outgoing::Proxies;
use codex_secret::Secret;
use std::path::PathBuf;

/// Values of the environment variables. The default is an empty environment.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// `CODEX_API_KEY`, trimmed.
    pub api_key: Option<Secret>,
    /// `CODEX_ACCESS_TOKEN`, trimmed.
    pub access_token: Option<Secret>,
    /// Those of a workload's identity.
    pub workload: WorkloadVariables,
    /// `CODEX_REFRESH_TOKEN_URL_OVERRIDE`: where refresh requests go, in full.
    pub refresh_url: Option<String>,
    /// `CODEX_REVOKE_TOKEN_URL_OVERRIDE`: where revocations go, in full.
    pub revoke_url: Option<String>,
    /// `CODEX_APP_SERVER_LOGIN_CLIENT_ID`: the client of tokens that don't name theirs.
    pub client_id: Option<String>,
    /// `CODEX_AUTHAPI_BASE_URL`: where personal access tokens are looked up.
    pub authapi_base_url: Option<String>,
    /// `CODEX_INTERNAL_ORIGINATOR_OVERRIDE`: the name this program gives itself.
    pub originator: Option<String>,
    /// `CODEX_CA_CERTIFICATE`, else `SSL_CERT_FILE`: further certificates to trust, as PEM.
    pub ca_certificates: Option<PathBuf>,
    /// The proxies.
    pub proxies: Proxies,
    /// The terminal's name, for the user agent; empty when there is none.
    pub terminal: String,
}

impl Variables {
    /// Asks `lookup` for each variable, as `std::env::var(name).ok()` would answer. Blank values count as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let text =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let program = text("TERM_PROGRAM").map(|program| match text("TERM_PROGRAM_VERSION") {
            Some(version) => format!("{program}/{version}"),
            None => program,
        });
        Self {
            api_key: lookup("CODEX_API_KEY").and_then(|key| Secret::from(key).trimmed()),
            access_token: lookup("CODEX_ACCESS_TOKEN").and_then(|token| Secret::from(token).trimmed()),
            workload: WorkloadVariables::from_lookup(&lookup),
            refresh_url: text("CODEX_REFRESH_TOKEN_URL_OVERRIDE"),
            revoke_url: text("CODEX_REVOKE_TOKEN_URL_OVERRIDE"),
            client_id: text("CODEX_APP_SERVER_LOGIN_CLIENT_ID"),
            authapi_base_url: text("CODEX_AUTHAPI_BASE_URL"),
            originator: text("CODEX_INTERNAL_ORIGINATOR_OVERRIDE"),
            ca_certificates: codex_outgoing::ca_certificates(&lookup),
            proxies: Proxies::from_lookup(&lookup),
            terminal: program.or_else(|| text("TERM")).unwrap_or_default(),
        }
    }
}

/// The variables that say which identity a workload has, as they stand: an empty one is there, and wrong.
#[derive(Debug, Clone, Default)]
pub struct WorkloadVariables {
    /// `OPENAI_FEDERATION_RULE_ID`: the rule of the service that accepts the token.
    pub rule: Option<String>,
    /// `OPENAI_IDENTITY_TOKEN_FILE`: an absolute path.
    pub file: Option<String>,
    /// `OPENAI_IDENTITY_TOKEN_SOURCE`: `file` or `spiffe`.
    pub source: Option<String>,
    /// `SPIFFE_ENDPOINT_SOCKET`: a `unix:` URI.
    pub socket: Option<String>,
    /// `OPENAI_SPIFFE_AUDIENCE`.
    pub audience: Option<String>,
    /// `OPENAI_SPIFFE_ID`: which identity, where there are several.
    pub spiffe_id: Option<String>,
}

impl WorkloadVariables {
    /// Asks `lookup` for each variable.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            rule: lookup("OPENAI_FEDERATION_RULE_ID"),
            file: lookup("OPENAI_IDENTITY_TOKEN_FILE"),
            source: lookup("OPENAI_IDENTITY_TOKEN_SOURCE"),
            socket: lookup("SPIFFE_ENDPOINT_SOCKET"),
            audience: lookup("OPENAI_SPIFFE_AUDIENCE"),
            spiffe_id: lookup("OPENAI_SPIFFE_ID"),
        }
    }

    /// Whether anything says that this is a workload. A SPIFFE socket alone does not: others use it too.
    pub(crate) fn is_workload(&self) -> bool {
        [&self.rule, &self.file, &self.source, &self.audience, &self.spiffe_id]
            .into_iter()
            .any(Option::is_some)
    }
}

#[cfg(test)]
mod tests;
