//! An HTTPS origin on loopback, HTTP/1.1 and HTTP/2, with a certificate that nobody trusts by himself.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::extract::Request;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;

/// The running origin; it ends when dropped.
pub struct TlsOrigin {
    handle: Handle<SocketAddr>,
    port: u16,
    /// The certificate to trust, as a PEM file.
    pub certificate: PathBuf,
    _directory: tempfile::TempDir,
}

impl TlsOrigin {
    /// Answers each request with its HTTP version and target.
    pub async fn start() -> Self {
        // Another test may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let certificate = directory.path().join("ca.pem");
        std::fs::write(&certificate, cert.pem()).expect("a file");
        let key = signing_key.serialize_pem().into_bytes();
        let config = RustlsConfig::from_pem(cert.pem().into_bytes(), key).await.expect("a TLS configuration");
        let handle = Handle::new();
        let origin = Router::new()
            .fallback(async |request: Request| format!("{:?} {}", request.version(), request.uri().path()));
        let address: SocketAddr = ([127, 0, 0, 1], 0).into();
        let server = axum_server::bind_rustls(address, config).handle(handle.clone());
        tokio::spawn(async move { server.serve(origin.into_make_service()).await.expect("it serves") });
        let port = handle.listening().await.expect("it listens").port();
        Self { handle, port, certificate, _directory: directory }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

impl Drop for TlsOrigin {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}
