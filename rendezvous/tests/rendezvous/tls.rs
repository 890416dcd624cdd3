//! The same over TLS, and what is said about files that can't be used.

use std::path::PathBuf;
use std::sync::Arc;

use codex_rendezvous::{Rendezvous, TlsFiles};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::support::{Server, Socket, config, data, key, pair, text};

/// A certificate for localhost in files of its own.
fn files(directory: &tempfile::TempDir) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str, text: String| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = path("cert.pem", made.cert.pem());
    let key = path("key.pem", made.signing_key.serialize_pem());
    (TlsFiles { certificate, key }, made.cert.der().clone())
}

fn client(root: &CertificateDer<'static>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn open(url: &str, root: &CertificateDer<'static>) -> Socket {
    let connector = Connector::Rustls(client(root));
    Socket(connect_async_tls_with_config(url, None, false, Some(connector)).await.unwrap().0)
}

#[tokio::test]
async fn registry_and_rendezvous_work_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, root) = files(&directory);
    let server = Server::start_with(|config| config.tls = Some(tls)).await;
    assert!(server.rendezvous.local_url().starts_with("https://127.0.0.1:"));
    let http =
        reqwest::Client::builder().tls_backend_preconfigured((*client(&root)).clone()).build().unwrap();
    let port = server.rendezvous.address().port();
    let post = async |path: &str, body| {
        let request = http.post(format!("https://localhost:{port}{path}")).bearer_auth(&server.token);
        request.json(&body).send().await.unwrap().json::<serde_json::Value>().await.unwrap()
    };
    let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1)});
    let executor = text(&post("/cloud/environment/e/register", body).await["url"]);
    assert!(executor.starts_with(&format!("wss://localhost:{port}/")), "{executor}");
    let mut executor = open(&executor, &root).await;
    let harness = post("/cloud/environment/e/connect", json!({"harness_public_key": key(9)})).await;
    let mut harness = open(&text(&harness["url"]), &root).await;
    for size in [1, 100, 70_000, 200_000] {
        let payload = "x".repeat(size);
        harness.send(data("A", payload.clone())).await;
        assert_eq!(executor.said().await, pair("A", &payload));
        executor.send(data("A", payload.clone())).await;
        assert_eq!(harness.said().await, pair("A", &payload));
    }
    let (_, code) = tokio::join!(server.rendezvous.drain(), executor.closed());
    assert_eq!(code.0, 1012);
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_restart() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (tls, _) = files(&old);
    let server = Server::start_with(|config| config.tls = Some(tls)).await;
    let (tls, root) = files(&new);
    server.rendezvous.replace_certificate(&tls).unwrap();
    let http =
        reqwest::Client::builder().tls_backend_preconfigured((*client(&root)).clone()).build().unwrap();
    let port = server.rendezvous.address().port();
    let answer = http.get(format!("https://localhost:{port}/readyz")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[tokio::test]
async fn what_can_not_be_used_is_told_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (good, _) = files(&directory);
    let other = tempfile::tempdir().unwrap();
    let (another, _) = files(&other);
    let missing = TlsFiles { certificate: directory.path().join("no.pem"), ..good.clone() };
    let swapped = TlsFiles { certificate: good.key.clone(), key: good.certificate.clone() };
    let mixed = TlsFiles { key: another.key, ..good };
    for (tls, name) in [(missing, "no.pem"), (swapped, "key.pem"), (mixed, "key.pem")] {
        let mut config = config(Vec::new());
        config.tls = Some(tls);
        let error = Rendezvous::start(config).await.unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    for url in ["ftp://x", "https://user@x/", "https://x/?q", "https://x/#f"] {
        let mut config = config(Vec::new());
        config.public_url = Some(url.parse().unwrap());
        let error = Rendezvous::start(config).await.unwrap_err().to_string();
        assert!(error.contains("http://HOST"), "{error}");
    }
    let taken = Server::start().await;
    let mut config = config(Vec::new());
    config.listen = taken.rendezvous.address();
    let error = Rendezvous::start(config).await.unwrap_err().to_string();
    assert!(error.contains(&taken.rendezvous.address().to_string()), "{error}");
}
