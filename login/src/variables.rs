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

#[cfg(test)]
mod tests;
