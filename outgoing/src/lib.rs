//! Connections that this program makes by itself: whom TLS trusts, and through which proxies they go.
//!
//! One rule for sign-in, registry, rendezvous and servers (`login.md` section 5): `CODEX_CA_CERTIFICATE`, else
//! `SSL_CERT_FILE`, adds certificates to those of the machine; the usual proxy variables are obeyed, except for loopback,
//! which a proxy elsewhere could not reach. Values are handed in; only the library that finds the machine's certificates
//! looks up `SSL_CERT_FILE` and `SSL_CERT_DIR` by itself.

mod dial;
mod error;
pub mod file;
mod forward;
mod loopback;
mod proxies;
mod sentence;
mod trust;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio_tungstenite::Connector;
use url::Url;

pub use dial::{DialError, Stream};
pub use error::OutgoingError;
pub use forward::Forward;
pub use loopback::is_loopback;
pub use proxies::Proxies;
pub use sentence::sentence;
pub use trust::{Roots, RootsError};
use trust::{Tls, Trust};

/// How connections are made. Cheap to clone, and cheap to make: certificates are read when the first connection over
/// TLS needs them.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    trust: Trust,
    proxies: Proxies,
    tls: OnceLock<Tls>,
}

impl Outgoing {
    /// Trusts the machine's certificates and those of the file; goes through the proxies. Does no I/O.
    pub fn new(ca_certificates: Option<PathBuf>, proxies: Proxies) -> Self {
        let trust = ca_certificates.map_or(Trust::Machine, Trust::Also);
        Self { shared: Arc::new(Shared { trust, proxies, tls: OnceLock::new() }) }
    }

    /// As the environment has it; `lookup` answers as `std::env::var(name).ok()` would. Blank values count as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        Self::new(ca_certificates(&lookup), Proxies::from_lookup(&lookup))
    }

    /// Trusts these certificates alone.
    #[must_use]
    pub fn trusting_only(self, roots: Roots) -> Self {
        let proxies = self.shared.proxies.clone();
        Self { shared: Arc::new(Shared { trust: Trust::Only(roots), proxies, tls: OnceLock::new() }) }
    }

    /// The beginning of an HTTP client. Reads certificates, so call it where that holds up nobody.
    ///
    /// # Errors
    /// Certificates or proxies that can't be used.
    pub fn http(&self) -> Result<reqwest::ClientBuilder, OutgoingError> {
        self.shared.proxies.apply(self.trusting()?)
    }

    /// The beginning of a client for requests of somebody else's: proxies count as for common tools, which also reach this
    /// machine through them.
    ///
    /// # Errors
    /// Certificates that can't be used.
    pub fn http_as_usual(&self) -> Result<reqwest::ClientBuilder, OutgoingError> {
        Ok(self.shared.proxies.apply_as_usual(self.trusting()?))
    }

    /// The same without certificates, for addresses without TLS.
    ///
    /// # Errors
    /// None that is known.
    pub fn plain_http_as_usual(&self) -> Result<reqwest::ClientBuilder, OutgoingError> {
        Ok(self.shared.proxies.apply_as_usual(trusting_nobody()?))
    }

    fn trusting(&self) -> Result<reqwest::ClientBuilder, OutgoingError> {
        let mut tls = (*self.tls()?.config).clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(reqwest::Client::builder().tls_backend_preconfigured(tls))
    }

    /// The beginning of an HTTP client for a server on this machine without TLS: no proxy, and nothing to read.
    ///
    /// # Errors
    /// None that is known.
    pub fn local_http() -> Result<reqwest::ClientBuilder, OutgoingError> {
        Ok(trusting_nobody()?.no_proxy())
    }

    /// What wraps the stream to a server: TLS for `wss` and `https`, else nothing.
    ///
    /// # Errors
    /// Certificates that can't be used, or none at all.
    pub async fn connector(&self, url: &Url) -> Result<Connector, OutgoingError> {
        match url.scheme() {
            "wss" | "https" => Ok(Connector::Rustls(self.tls_client().await?)),
            _ => Ok(Connector::Plain),
        }
    }

    async fn tls_client(&self) -> Result<Arc<rustls::ClientConfig>, OutgoingError> {
        let tls = match self.shared.tls.get() {
            Some(built) => built.clone(),
            None => {
                let this = self.clone();
                // Reads hundreds of files on some machines.
                let built = tokio::task::spawn_blocking(move || this.tls()).await;
                built.map_err(|error| OutgoingError::Tls(error.to_string()))??
            }
        };
        if tls.is_empty { Err(OutgoingError::NothingTrusted) } else { Ok(tls.config) }
    }

    fn tls(&self) -> Result<Tls, OutgoingError> {
        match self.shared.tls.get() {
            Some(built) => Ok(built.clone()),
            None => {
                let built = trust::tls(&self.shared.trust)?;
                Ok(self.shared.tls.get_or_init(|| built).clone())
            }
        }
    }
}

/// The beginning of a client that reads no certificates, and so can't use TLS.
fn trusting_nobody() -> Result<reqwest::ClientBuilder, OutgoingError> {
    let tls = (*trust::tls(&Trust::Nobody)?.config).clone();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls))
}

/// The file of further certificates that the environment names: `CODEX_CA_CERTIFICATE`, else `SSL_CERT_FILE`.
pub fn ca_certificates(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let name =
        |variable| lookup(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    name("CODEX_CA_CERTIFICATE").or_else(|| name("SSL_CERT_FILE")).map(PathBuf::from)
}

#[cfg(test)]
mod tests;
