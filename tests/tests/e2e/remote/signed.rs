//! Contract F: signatures of AWS, checked by a computation of their own (11).

use codex_e2e::registry::{Answer, Asked, ScriptedRegistry};
use codex_e2e::rendezvous::TICKET;
use codex_e2e::{ExecutorBuilder, ScriptedRendezvous};
use ring::{digest, hmac};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = codex_e2e::secret!("aws-secret/key");
const SESSION: &str = codex_e2e::secret!("aws-session-token");
const FLAGS: [&str; 5] = ["--environment-id", "id-1", "--remote-transport", "direct", "--aws-sigv4"];

fn registered(url: &str) -> Value {
    json!({"environment_id": "id-1", "transport": "direct_jsonrpc_v1", "registration_id": "r-1", "url": url})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Whether a request is signed for this region with the test's secret; the names of the headers that are.
fn check(asked: &Asked, path: &str, query: &str, region: &str) -> Result<String, String> {
    let header = |name: &str| asked.header(name).ok_or_else(|| format!("no {name}: {}", asked.head));
    let authorization = header("authorization")?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let part = |name: &str| {
        let found = rest.split(", ").find_map(|part| part.strip_prefix(name));
        found.map(str::to_owned).ok_or_else(|| format!("no {name}"))
    };
    let (credential, signed, signature) =
        (part("Credential=")?, part("SignedHeaders=")?, part("Signature=")?);
    let date = header("x-amz-date")?;
    let day = date.split('T').next().unwrap_or_default();
    let scope = format!("{day}/{region}/execute-api/aws4_request");
    assert_eq!(credential, format!("{KEY_ID}/{scope}"));
    let mut canonical = format!("{}\n{path}\n{query}\n", asked.line().split(' ').next().unwrap_or_default());
    for name in signed.split(';') {
        canonical += &format!("{name}:{}\n", header(name)?);
    }
    canonical += &format!("\n{signed}\n{}", hex_sha256(&asked.body));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex_sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for word in [day, region, "execute-api", "aws4_request"] {
        key = hmac_sha256(&key, word);
    }
    let expected = hex(&hmac_sha256(&key, &to_sign));
    if expected == signature {
        Ok(signed)
    } else {
        Err(format!("{signature} is not {expected} of {canonical}"))
    }
}

fn with_keys(executor: ExecutorBuilder) -> ExecutorBuilder {
    executor
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "eu-central-1")
}

#[tokio::test]
async fn registration_and_upgrade_are_signed_and_the_registration_is_kept() {
    let rendezvous = ScriptedRendezvous::start().await;
    let registry = ScriptedRegistry::answering([Answer::ok(registered(&rendezvous.url()))]).await;
    let executor = with_keys(ExecutorBuilder::new(&registry.url)).args(FLAGS).start();
    let asked = registry.request(1).await;
    let path = "/cloud/environment/id-1/direct/register";
    assert_eq!(asked.line(), format!("POST {path}"));
    assert_eq!(asked.json(), json!({"transport": "direct_jsonrpc_v1"}));
    assert_eq!(check(&asked, path, "", "eu-central-1").as_deref(), Ok("content-type;host;x-amz-date"));
    for _ in 0..2 {
        let attempt = rendezvous.attempt().await;
        let upgrade = Asked { head: attempt.head.clone(), body: Vec::new() };
        assert_eq!(check(&upgrade, "/rv/executor", TICKET, "eu-central-1").as_deref(), Ok("host;x-amz-date"));
        let mut socket = attempt.accept().await;
        let initialize = json!({"id": 1, "method": "initialize", "params": {"clientName": "t"}}).to_string();
        socket.message(Message::text(initialize)).await;
        let Some(Message::Text(answer)) = socket.next().await else { panic!("no text frame") };
        assert!(answer.contains("sessionId"), "{answer}");
    }
    assert_eq!(registry.asked().len(), 1, "the registration is kept");
    assert_eq!(executor.stop().await.code, Some(0));
}

#[tokio::test]
async fn keys_come_from_variables_or_a_profile_and_a_named_profile_goes_first() {
    let rendezvous = ScriptedRendezvous::start().await;
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        std::fs::write(files.path().join(name), text).expect("written");
        files.path().join(name).to_str().expect("text").to_owned()
    };
    let keys = format!(
        "aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\naws_session_token={SESSION}\n"
    );
    let credentials = file("credentials", &format!("[default]\naws_access_key_id=other\n[work]\n{keys}"));
    let config = file("config", "[profile work]\nregion = us-west-2\n[profile sso]\nsso_session = x\n");
    for flags in [&["--aws-profile", "work"][..], &[]] {
        let registry = ScriptedRegistry::answering([Answer::ok(registered(&rendezvous.url()))]).await;
        let executor = ExecutorBuilder::new(&registry.url)
            .args(FLAGS)
            .args(flags)
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("AWS_CONFIG_FILE", &config);
        let executor = match flags {
            [] => executor.env("AWS_PROFILE", "work"),
            _ => executor.env("AWS_ACCESS_KEY_ID", "wrong").env("AWS_SECRET_ACCESS_KEY", "wrong"),
        };
        let executor = executor.start();
        let asked = registry.request(1).await;
        let signed = check(&asked, "/cloud/environment/id-1/direct/register", "", "us-west-2");
        assert_eq!(signed.as_deref(), Ok("content-type;host;x-amz-date;x-amz-security-token"), "{flags:?}");
        assert_eq!(asked.header("x-amz-security-token"), Some(SESSION));
        rendezvous.executor().await;
        assert_eq!(executor.stop().await.code, Some(0));
    }
    let registry = ScriptedRegistry::answering([]).await;
    for (flags, text) in [
        (&["--aws-profile", "sso"][..], "no AWS region is known"),
        (&["--aws-profile", "sso", "--aws-region", "r"], "takes its keys by sso_session"),
        (&["--aws-profile", "none", "--aws-region", "r"], "there are no AWS keys"),
    ] {
        let outcome = ExecutorBuilder::new(&registry.url)
            .args(FLAGS)
            .args(flags)
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("AWS_CONFIG_FILE", &config)
            .outcome()
            .await;
        assert!(outcome.code == Some(1) && outcome.stderr.contains(text), "{flags:?}: {outcome:?}");
    }
    assert!(registry.asked().is_empty());
}

#[tokio::test]
async fn answers_of_another_kind_are_refused() {
    let good = registered("ws://127.0.0.1:1");
    let with = |name: &str, value: &str| {
        let mut answer = good.clone();
        answer[name] = json!(value);
        Answer::ok(answer)
    };
    for (answer, text) in [
        (with("transport", "other"), "unsupported transport `other`"),
        (with("environment_id", "other"), "different environment id"),
        (with("registration_id", ""), "empty registration id"),
        (with("url", ""), "empty registration id or URL"),
        (
            Answer::ok(json!({"environment_id": "id-1"})),
            "failed to serialize or deserialize exec-server JSON",
        ),
        (
            Answer::status("403 Forbidden", r#"{"error":{"message":"no"}}"#),
            "authentication failed (403 Forbidden): no",
        ),
    ] {
        let registry = ScriptedRegistry::answering([answer]).await;
        let outcome = with_keys(ExecutorBuilder::new(&registry.url)).args(FLAGS).outcome().await;
        assert!(outcome.code == Some(1) && outcome.stderr.contains(text), "{text}: {outcome:?}");
    }
    let outcome = with_keys(ExecutorBuilder::new("http://registry.test")).args(FLAGS).outcome().await;
    assert!(outcome.code == Some(1) && outcome.stderr.contains("requires https"), "{outcome:?}");
}
