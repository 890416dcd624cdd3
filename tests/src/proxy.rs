//! An HTTPS proxy that ends TLS itself and hands the plain bytes to a server of the test.
//!
//! So the browser flow of the built binary, which knows but one issuer, can be tested without a switch in the binary:
//! users have `HTTPS_PROXY` and `CODEX_CA_CERTIFICATE`, too.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A running proxy; dropping it ends it.
pub struct Proxy {
    /// For `HTTPS_PROXY`.
    pub url: String,
    /// The certificate to trust, as PEM.
    pub certificate: String,
    targets: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy that plays `host` and hands every connection to the server at `server`.
    pub async fn start(host: &str, server: SocketAddr) -> Self {
        let (certificate, acceptor) = identity(host);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let targets = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&targets);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, acceptor.clone(), server, Arc::clone(&seen)));
            }
        });
        Self { url, certificate, targets, task }
    }

    /// The hosts and ports that connections were asked for.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().expect("no panic holds it").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate for `host` with the authority that signed it.
fn identity(host: &str) -> (String, TlsAcceptor) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![host.to_owned()])
        .and_then(|params| params.signed_by(&key, &issuer))
        .expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("the key fits the certificate");
    (pem, TlsAcceptor::from(Arc::new(config)))
}

async fn carry(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    server: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else { return };
    targets.lock().expect("no panic holds it").push(target.to_owned());
    if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_err() {
        return;
    }
    let (Ok(mut plain), Ok(mut there)) = (acceptor.accept(stream).await, TcpStream::connect(server).await)
    else {
        return;
    };
    let _ = copy_bidirectional(&mut plain, &mut there).await;
}
