//! The triangle behind a corporate proxy: executor and harness know no way out but `CONNECT`.

use std::process::Stdio;

use codex_e2e::client::guarded;
use codex_e2e::proxy::Proxy;
use codex_e2e::{ExecutorBuilder, Hub, binary};
use tokio::process::Command;

use super::variable;

/// A name that nobody resolves: only the proxy knows where it leads.
const HOST: &str = "rendezvous.test";

#[tokio::test]
async fn both_ends_reach_a_registry_and_its_rendezvous_through_the_proxy_alone() {
    let url = format!("https://{HOST}");
    let mut hub = Hub::start(&["--public-url", &url]).await;
    let proxy = Proxy::start(HOST, hub.address()).await;
    let certificate = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(certificate.path(), &proxy.certificate).unwrap();
    let certificate = certificate.path().to_str().unwrap();
    let with_password = proxy.url.replacen("http://", "http://user:s3cret@", 1);
    let line = hub.line("--remote").await;
    let mut executor = ExecutorBuilder::of_line(&line, None)
        .env("HTTPS_PROXY", &with_password)
        .env("CODEX_CA_CERTIFICATE", certificate)
        .start();
    executor.tells(&format!("attached to wss://{HOST}")).await;
    assert_eq!(proxy.targets(), [format!("{HOST}:443"), format!("{HOST}:443")], "registration and websocket");
    let token = variable(&hub.line("run --registry").await, "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN");
    let run = |proxy_variable: &str, address: &str, exceptions: &str| {
        Command::new(binary::codex())
            .args(["exec-server", "run", "--registry", &url, "--environment-id", "my-machine"])
            .args(["--", "echo", "through"])
            .env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", &token)
            .env("CODEX_CA_CERTIFICATE", certificate)
            .env(proxy_variable, address)
            .env("NO_PROXY", exceptions)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
    };
    for variable in ["https_proxy", "ALL_PROXY"] {
        let output = guarded("run", run(variable, &with_password, "other.test")).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(0), &b"through\n"[..]),
            "{stderr}"
        );
    }
    let asked = proxy.targets().len();
    assert_eq!(asked, 6, "/connect and a websocket for each run");
    let output = guarded("run", run("HTTPS_PROXY", &with_password, "rendezvous.test")).await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "the name leads nowhere without the proxy: {stderr}");
    assert!(!stderr.contains("s3cret") && proxy.targets().len() == asked, "{stderr}");
    assert!(!executor.stop().await.stderr.contains("s3cret"));
}
