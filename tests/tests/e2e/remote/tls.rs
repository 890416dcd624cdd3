//! Registry and rendezvous over TLS, with certificates of the user's own.

use codex_e2e::registry::Answer;
use codex_e2e::relay::PlainHarnesses;
use codex_e2e::tls::Certificate;
use codex_e2e::{ExecutorBuilder, ScriptedRegistry, ScriptedRendezvous};
use tokio::io::AsyncWriteExt;

use super::Contract;

/// A registry and a rendezvous behind TLS: the registry's URL, and both themselves.
async fn secured(
    contract: Contract,
    certificate: &Certificate,
) -> (String, ScriptedRegistry, ScriptedRendezvous) {
    let rendezvous = ScriptedRendezvous::start().await;
    let plain = rendezvous.url();
    let (address, path) = plain.trim_start_matches("ws://").split_once('/').expect("a path");
    let front = certificate.front(address).await;
    let registered = contract.registered(&format!("wss://{front}/{path}"));
    let registry = ScriptedRegistry::answering([Answer::ok(registered)]).await;
    let url = format!("https://{}", certificate.front(registry.url.trim_start_matches("http://")).await);
    (url, registry, rendezvous)
}

#[tokio::test]
async fn a_program_runs_over_tls_when_the_certificate_is_trusted_by_either_variable() {
    let certificate = Certificate::new();
    let file = certificate.pem.path().to_str().expect("a path in UTF-8").to_owned();
    for variable in ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"] {
        for contract in [Contract::Executor, Contract::Environment] {
            let (url, _registry, rendezvous) = secured(contract, &certificate).await;
            let mut executor = contract.executor(&url).env(variable, &file).start();
            let harnesses = PlainHarnesses::on(rendezvous.executor().await);
            let mut client = harnesses.client("S");
            client.handshake().await;
            assert_eq!(client.run("p", "echo over TLS").await.stdout(), "over TLS\n");
            executor.tells("attached to wss://localhost:").await;
        }
    }
}

#[tokio::test]
async fn a_chatgpt_token_from_stdin_goes_out_with_its_account() {
    const TOKEN: &str = codex_e2e::secret!("chatgpt-token-of-stdin");
    let certificate = Certificate::new();
    let file = certificate.pem.path().to_str().expect("a path in UTF-8").to_owned();
    let (url, registry, rendezvous) = secured(Contract::Environment, &certificate).await;
    let mut executor = ExecutorBuilder::new(&url)
        .args(["--environment-id", "id-1", "--remote-contract", "environment"])
        .args(["--chatgpt-token-stdin", "--chatgpt-account-id", "acct-1"])
        .env("SSL_CERT_FILE", &file)
        .with_stdin()
        .start();
    let line = format!("{TOKEN}\n");
    executor.stdin().as_mut().expect("a pipe").write_all(line.as_bytes()).await.expect("written");
    let asked = registry.request(1).await;
    assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {TOKEN}")));
    assert_eq!(asked.header("chatgpt-account-id"), Some("acct-1"));
    rendezvous.executor().await;
    assert_eq!(executor.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_refused() {
    let certificate = Certificate::new();
    let (url, registry, _rendezvous) = secured(Contract::Noise, &certificate).await;
    let outcome = Contract::Noise.executor(&url).outcome().await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("invalid peer certificate"), "{outcome:?}");
    assert!(registry.asked().is_empty(), "no credential went out");
}
