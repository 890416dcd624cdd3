//! Whom a rendezvous over TLS is trusted by: the machine's certificates, and the user's own.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::sync::OnceCell;
use tokio_tungstenite::Connector;

/// Makes TLS connections. The certificates are read when the first is made.
#[derive(Default)]
pub(super) struct Tls {
    more: Option<PathBuf>,
    built: OnceCell<Connector>,
}

impl Tls {
    /// `more`: a file of further certificates to trust, as PEM.
    pub(super) fn new(more: Option<PathBuf>) -> Self {
        Self { more, built: OnceCell::new() }
    }

    /// The connector for `wss://`.
    ///
    /// # Errors
    /// In words: the user's file can't be used, or there is nothing to trust.
    pub(super) async fn connector(&self) -> Result<Connector, String> {
        let build = || async {
            let more = self.more.clone();
            // Reads hundreds of files on some machines.
            tokio::task::spawn_blocking(move || build(more)).await.map_err(|error| error.to_string())?
        };
        self.built.get_or_try_init(build).await.cloned()
    }
}

fn build(more: Option<PathBuf>) -> Result<Connector, String> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a certificate of this machine can't be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = more {
        let unusable = |why: String| format!("the CA certificates {} can't be used: {why}", path.display());
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        let certificates = certificates.map_err(|error| unusable(error.to_string()))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(unusable("there is none in it".to_owned()));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}
