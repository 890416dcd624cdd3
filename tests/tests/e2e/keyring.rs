//! The login commands over a real Secret Service; `secret-tool` plays another program.

use codex_e2e::login::Home;
use codex_e2e::secret_service::SecretService;
use codex_e2e::secrets::secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const IN_KEYRING: [&str; 2] = ["-c", "cli_auth_credentials_store=keyring"];

fn account(home: &Home) -> String {
    let path = home.path().canonicalize().unwrap();
    let hash = Sha256::digest(path.to_str().unwrap());
    hash[..8].iter().fold("cli|".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Runs `secret-tool` on the entry of this home.
fn secret_tool(service: &SecretService, home: &Home, args: &[&str], input: &str) -> String {
    let mut tool = Command::new("secret-tool");
    tool.args(args).args(["service", "Codex Auth", "username", &account(home)]);
    let mut tool = service.on(&mut tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(tool.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn a_sign_in_in_the_keyring_is_shared_with_other_programs() {
    let Some(service) = SecretService::start() else { return };
    let mut home = Home::new();
    home.set("DBUS_SESSION_BUS_ADDRESS", service.address());
    // Both ends are shown.
    let key = format!("sk-proj-{}-12345", secret("key"));

    let login = [&["login", "--with-api-key"][..], &IN_KEYRING].concat();
    let ended = home.run_with(&login, &key).await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(home.auth(), None);
    let stored: Value = serde_json::from_str(&secret_tool(&service, &home, &["lookup"], "")).unwrap();
    assert_eq!(stored, json!({"auth_mode": "apikey", "OPENAI_API_KEY": key}));

    let status = [&["login", "status"][..], &IN_KEYRING].concat();
    let ended = home.run(&status).await;
    assert!(
        ended.status.success() && ended.stderr.contains("API key configured - sk-proj-***12345"),
        "{ended:?}"
    );
    assert!(!home.run(&["login", "status"]).await.status.success(), "there is no file");

    let foreign = json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null}).to_string();
    secret_tool(&service, &home, &["clear"], "");
    secret_tool(&service, &home, &["store", "--label=another program's"], &foreign);
    let ended = home.run(&status).await;
    assert!(ended.status.success() && ended.stderr.contains("Logged in using ChatGPT"), "{ended:?}");

    let logout = [&["logout"][..], &IN_KEYRING].concat();
    for line in ["Successfully logged out", "Not logged in"] {
        let ended = home.run(&logout).await;
        assert!(ended.status.success() && ended.stderr.contains(line), "{ended:?}");
    }
    assert_eq!(secret_tool(&service, &home, &["lookup"], ""), "");
}
