//! TLS on loopback with certificates that nobody trusts by himself: an HTTPS origin, and a front for plain servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

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

/// A certificate for `localhost`, and its key.
pub struct Certificate {
    /// The certificate as PEM, to be trusted.
    pub pem: NamedTempFile,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// A fresh one that nobody trusts yet.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let pem = NamedTempFile::new().expect("a file for the certificate");
        std::fs::write(pem.path(), made.cert.pem()).expect("the file is writable");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a good certificate");
        Self { pem, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// A TLS port in front of a plain address (`127.0.0.1:1234`): its `localhost:port`.
    pub async fn front(&self, behind: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (acceptor, behind) = (self.acceptor.clone(), behind.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut plain = TcpStream::connect(behind).await.expect("the server behind listens");
                    let _ = copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        format!("localhost:{port}")
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}
