//! The HTTP client of sign-in requests: named, behind the user's proxies, trusting the user's certificates (login.md 11).

use crate::variables::Variables;
use codex_outgoing::{Outgoing, OutgoingError, Proxies};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The name of this program in requests, unless the environment gives another.
pub const DEFAULT_ORIGINATOR: &str = "codex_cli_rs";
/// The longest wait for a connection. Fixed by the wire.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time from a request to the end of its answer. Fixed by the wire.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP client for sign-in services. Cheap to clone, and cheap to make: the real client is built by the first request.
#[derive(Debug, Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ClientSettings,
    built: OnceLock<reqwest::Client>,
    user_agent: OnceLock<String>,
}

/// What an [`HttpClient`] is made from.
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    /// The name in `originator`.
    pub originator: Option<String>,
    /// The version in the user agent.
    pub version: String,
    /// The terminal in the user agent.
    pub terminal: String,
    /// Further certificates to trust, as PEM.
    pub ca_certificates: Option<PathBuf>,
    /// The proxies.
    pub proxies: Proxies,
    /// The longest time from a request to the end of its answer; [`REQUEST_TIMEOUT`] if not given.
    pub timeout: Option<Duration>,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Certificates or proxies that can't be used.
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    /// The TLS library can't start.
    #[error("can't set up HTTPS: {0}")]
    Build(#[source] reqwest::Error),
    /// The originator can't stand in a header.
    #[error("the originator (CODEX_INTERNAL_ORIGINATOR_OVERRIDE) can't stand in an HTTP header")]
    BadOriginator(#[from] InvalidHeaderValue),
}

impl HttpClient {
    /// A client of this `version`, as the environment wants it. Does no I/O.
    pub fn new(version: impl Into<String>, variables: &Variables) -> Self {
        Self::from_settings(ClientSettings {
            originator: variables.originator.clone(),
            version: version.into(),
            terminal: variables.terminal.clone(),
            ca_certificates: variables.ca_certificates.clone(),
            proxies: variables.proxies.clone(),
            timeout: None,
        })
    }

    /// A client with these settings. Does no I/O.
    pub fn from_settings(settings: ClientSettings) -> Self {
        Self { shared: Arc::new(Shared { settings, built: OnceLock::new(), user_agent: OnceLock::new() }) }
    }

    /// Makes ready, on a thread for blocking work, what [`Self::plain`] and [`Self::named_headers`] give. Either does so
    /// by itself otherwise, and holds up an event loop: trusted certificates are read from disk, and the system's name
    /// is asked of other programs.
    ///
    /// # Errors
    /// There can be no client.
    pub async fn prepare(&self) -> Result<(), ClientError> {
        if self.shared.built.get().is_some() && self.shared.user_agent.get().is_some() {
            return Ok(());
        }
        let client = self.clone();
        let ready = tokio::task::spawn_blocking(move || {
            client.user_agent();
            client.plain().map(|_| ())
        });
        // Only a program that stops ends that thread early; then the request fails by itself.
        ready.await.unwrap_or(Ok(()))
    }

    /// The client itself, built now if it is not yet. It sends neither originator nor a user agent of its own, as
    /// sign-in exchange, device code and registration want it. The first call reads the trusted certificates.
    pub fn plain(&self) -> Result<&reqwest::Client, ClientError> {
        match self.shared.built.get() {
            Some(client) => Ok(client),
            None => {
                let client = build(&self.shared.settings)?;
                Ok(self.shared.built.get_or_init(|| client))
            }
        }
    }

    /// The name of this program in requests.
    pub fn originator(&self) -> &str {
        self.shared.settings.originator.as_deref().unwrap_or(DEFAULT_ORIGINATOR)
    }

    /// The headers by which refresh, revocation and look-up requests name this program.
    pub fn named_headers(&self) -> Result<HeaderMap, ClientError> {
        let originator = HeaderValue::from_str(self.originator())?;
        let user_agent = HeaderValue::from_str(self.user_agent())?;
        Ok(HeaderMap::from_iter([
            (HeaderName::from_static("originator"), originator),
            (USER_AGENT, user_agent),
        ]))
    }

    /// `codex_cli_rs/1.2.3 (Debian 12.0.0; x86_64) xterm`.
    pub fn user_agent(&self) -> &str {
        // Asking the system's name reads files; once is enough.
        self.shared.user_agent.get_or_init(|| {
            let settings = &self.shared.settings;
            let system = os_info::get();
            let agent = format!(
                "{}/{} ({} {}; {}) {}",
                self.originator(),
                settings.version,
                system.os_type(),
                system.version(),
                system.architecture().unwrap_or(std::env::consts::ARCH),
                if settings.terminal.is_empty() { "unknown" } else { &settings.terminal },
            );
            agent.chars().map(|char| if matches!(char, ' '..='~') { char } else { '_' }).collect()
        })
    }
}

fn build(settings: &ClientSettings) -> Result<reqwest::Client, ClientError> {
    Outgoing::new(settings.ca_certificates.clone(), settings.proxies.clone())
        .http()?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(settings.timeout.unwrap_or(REQUEST_TIMEOUT))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(ClientError::Build)
}

#[cfg(test)]
mod tests;
