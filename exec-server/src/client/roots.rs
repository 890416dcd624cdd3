//! Which certificates a `wss://` server may be signed by.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_tungstenite::Connector;

/// Roots of trust of one's own, instead of the system's.
#[derive(Clone)]
pub struct Roots(Arc<ClientConfig>);

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Roots(..)")
    }
}

/// Why certificates can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// No certificate in the text.
    #[error("there is no certificate in it; expected PEM, with lines `-----BEGIN CERTIFICATE-----`")]
    None,
    /// Not PEM, or no certificate.
    #[error("certificate {number} can't be used: {reason}")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Roots {
    /// Trusts the certificates of a PEM text, and no others.
    ///
    /// # Errors
    /// A text without certificates, or with one that is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let failed = |reason: String| RootsError::Certificate { number: index + 1, reason };
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(RootsError::None);
        }
        let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| RootsError::Certificate { number: 1, reason: error.to_string() })?;
        Ok(Self(Arc::new(versions.with_root_certificates(roots).with_no_client_auth())))
    }

    pub(super) fn connector(&self) -> Connector {
        Connector::Rustls(Arc::clone(&self.0))
    }
}
