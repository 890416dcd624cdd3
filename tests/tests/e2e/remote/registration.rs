//! The registration: what is sent, and what each answer comes to (1.2, 2.1, 3, 6.1).

use codex_e2e::registry::{Answer, Asked};
use codex_e2e::{ExecutorBuilder, ScriptedRegistry, ScriptedRendezvous};
use serde_json::{Value, json};

use super::{BEARER, Contract};

fn host(asked: &Asked) -> &str {
    asked.header("host").expect("a host")
}

#[tokio::test]
async fn contract_c_sends_exactly_the_captured_head_and_no_body() {
    let (registry, rendezvous) = Contract::Executor.stage().await;
    let mut executor = Contract::Executor.executor(&registry.url).start();
    let asked = registry.request(1).await;
    let expected = format!(
        "POST /cloud/executor/id-1/register HTTP/1.1\r\nauthorization: Bearer {BEARER}\r\naccept: */*\r\nhost: {}\r\n",
        host(&asked)
    );
    assert_eq!((asked.head.as_str(), asked.body.as_slice()), (expected.as_str(), b"".as_slice()));
    rendezvous.executor().await;
    executor.tells("codex exec-server remote executor registered with executor_id id-1\n").await;
}

#[tokio::test]
async fn contract_d_sends_a_bearer_and_no_body() {
    let (registry, rendezvous) = Contract::Environment.stage().await;
    let mut executor = Contract::Environment.executor(&registry.url).start();
    let asked = registry.request(1).await;
    assert_eq!(asked.line(), "POST /cloud/environment/id-1/register");
    assert_eq!(asked.header_names(), ["authorization", "accept", "host"]);
    assert_eq!(asked.header("authorization"), Some(concat!("Bearer ", codex_e2e::secret!("tok-1"))));
    assert!(asked.body.is_empty());
    rendezvous.executor().await;
    executor.tells("codex exec-server remote environment registered with environment_id id-1\n").await;
}

#[tokio::test]
async fn contract_e_sends_its_key_and_keeps_it() {
    let contract = Contract::Noise;
    let rendezvous = ScriptedRendezvous::start().await;
    let registry = ScriptedRegistry::answering([Answer::ok(contract.registered(&rendezvous.url()))]).await;
    let executor = contract.executor(&registry.url).start();
    let asked = registry.request(1).await;
    let names = ["authorization", "content-type", "accept", "host", "content-length"];
    assert_eq!(asked.header_names(), names);
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let body = asked.json();
    let start = r#"{"security_profile":"noise_hybrid_ik_v1","executor_public_key":{"suite":"#;
    assert!(asked.body.starts_with(start.as_bytes()), "{body}");
    let key = body["executor_public_key"].as_object().expect("a key");
    assert_eq!(key.len(), 3);
    assert_eq!(key["suite"], "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256");
    assert_eq!(key["x25519_public_key"].as_str().unwrap().len(), 44);
    assert_eq!(key["mlkem768_public_key"].as_str().unwrap().len(), 1580);
    // A 4xx on the upgrade makes it register again, with the same key (8.1).
    rendezvous.attempt().await.refuse("404 Not Found", "").await;
    assert_eq!(registry.request(2).await.body, asked.body);
    drop(executor);
}

#[tokio::test]
async fn contract_a_sends_its_body_and_the_same_id_at_every_registration_of_a_launch() {
    let (registry, rendezvous) = Contract::Cloud.stage().await;
    let named = |executor: ExecutorBuilder| executor.args(["--name", "my machine"]);
    let mut executor = named(Contract::Cloud.executor(&registry.url)).start();
    let asked = registry.request(1).await;
    let names = ["authorization", "chatgpt-account-id", "content-type", "accept", "host", "content-length"];
    assert_eq!(asked.header_names(), names);
    assert_eq!(asked.header("authorization"), Some(concat!("Bearer ", codex_e2e::secret!("at-0"))));
    assert_eq!(asked.header("chatgpt-account-id"), Some("acct-1"));
    let id = asked.json()["idempotency_id"].as_str().expect("an id").to_string();
    let hex = id.strip_prefix("codex-exec-server-").expect("a prefix");
    assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
    let expected = format!(
        r#"{{"idempotency_id":"{id}","environment_id":"id-1","name":"my machine","labels":{{}},"metadata":{{}}}}"#
    );
    assert_eq!(String::from_utf8(asked.body).unwrap(), expected);
    executor.tells("codex exec-server remote executor exec-1 registered in environment id-1\n").await;
    drop(rendezvous.executor().await);
    assert_eq!(registry.request(2).await.json()["idempotency_id"], *id);
    drop(executor);
    let other = named(Contract::Cloud.executor(&registry.url)).start();
    assert_ne!(registry.request(3).await.json()["idempotency_id"], *id);
    drop(other);
    let unnamed = ExecutorBuilder::new(&registry.url).file("auth.json", &super::chatgpt("t", "a")).start();
    let body = registry.request(4).await.json();
    assert!(body.get("environment_id").is_none() && body["name"] == "codex-exec-server", "{body}");
    drop(unnamed);
}

/// What an executor prints and how it ends when its first registration is answered so.
async fn printed(contract: Contract, answer: Answer) -> String {
    let registry = ScriptedRegistry::answering([answer]).await;
    let outcome = contract.executor(&registry.url).outcome().await;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{contract:?}: {outcome:?}");
    assert!(
        !outcome.stderr.contains(BEARER) && !outcome.stderr.contains(codex_e2e::secret!("at-0")),
        "{outcome:?}"
    );
    outcome.stderr
}

#[tokio::test]
async fn every_refusal_has_the_released_text() {
    let long = "x".repeat(5000);
    let cut = "x".repeat(4096);
    // Status, body, code in brackets, message.
    let cases: [(&str, &str, &str, &str); 11] = [
        ("404 Not Found", r#"{"error":{"code":"nf","message":"no such"}}"#, ", nf", "no such"),
        ("404 Not Found", r#"{"error":{"message":"no such"}}"#, "", "no such"),
        ("404 Not Found", r#" {"error":{"code":"nf"}} "#, ", nf", r#"{"error":{"code":"nf"}}"#),
        ("404 Not Found", r#"{"detail":{"code":"nf","message":"no such"}}"#, ", nf", "no such"),
        ("404 Not Found", r#"{"detail":"gone"}"#, "", r#"{"detail":"gone"}"#),
        ("404 Not Found", r#"{"other":1}"#, "", r#"{"other":1}"#),
        ("503 Service Unavailable", " come back later \n", "", "come back later"),
        ("500 Internal Server Error", "", "", "empty or malformed error body"),
        ("500 Internal Server Error", &long, "", &cut),
        ("418 I'm a teapot", "tea", "", "tea"),
        ("302 Found", "", "", "empty or malformed error body"),
    ];
    for contract in Contract::ALL {
        for (status, body, code, message) in cases {
            let expected = format!("Error: {} request failed ({status}{code}): {message}\n", contract.what());
            assert_eq!(
                printed(contract, Answer::status(status, body)).await,
                expected,
                "{contract:?} {body:.40}"
            );
        }
    }
}

#[tokio::test]
async fn a_refused_credential_has_the_released_text() {
    // Body, message.
    let cases = [
        (r#"{"error":{"code":"c","message":"who are you"}}"#, "who are you"),
        (r#"{"error":{"code":"c"}}"#, r#"{"error":{"code":"c"}}"#),
        ("plain", "plain"),
        ("", "empty error body"),
        // What it echoes is not repeated.
        (r#"{"error":{"message":"bad s3cr3t-tok-1"}}"#, "bad [hidden]"),
    ];
    for contract in [Contract::Executor, Contract::Environment, Contract::Noise] {
        for status in ["401 Unauthorized", "403 Forbidden"] {
            for (body, message) in cases {
                let what = contract.what();
                let expected = format!(
                    "Error: {what} authentication error: {what} authentication failed ({status}): {message}\n"
                );
                assert_eq!(printed(contract, Answer::status(status, body)).await, expected, "{contract:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_a_released_error_with_its_causes() {
    // Bound and closed again, so that nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for contract in Contract::ALL {
        let base = format!("http://127.0.0.1:{port}");
        let outcome = contract.executor(&base).outcome().await;
        let expected = format!(
            "Error: {} request failed: error sending request for url ({base}{})\n\nCaused by:\n    \
             0: client error (Connect)\n    1: tcp connect error\n    2: Connection refused (os error 111)\n",
            contract.what(),
            contract.path()
        );
        assert_eq!((outcome.code, outcome.stderr), (Some(1), expected), "{contract:?}");
    }
}

#[tokio::test]
async fn a_success_that_makes_no_sense_has_the_released_text() {
    // Body, cause.
    let cases = [
        ("nope", "expected ident at line 1 column 2"),
        ("", "EOF while parsing a value at line 1 column 0"),
        (r#"{"executor_id":"e"}"#, "missing field `url` at line 1 column 19"),
        (
            r#"{"executor_id":1,"url":"ws://h"}"#,
            "invalid type: integer `1`, expected a string at line 1 column 16",
        ),
    ];
    for (body, cause) in cases {
        let expected = format!(
            "Error: executor registry request failed: error decoding response body\n\nCaused by:\n    {cause}\n"
        );
        assert_eq!(printed(Contract::Executor, Answer::ok(body)).await, expected, "{body}");
    }
    let cases = [
        ("nope", "expected ident at line 1 column 2"),
        (r#"{"environment_id":"e"}"#, "missing field `url` at line 1 column 22"),
    ];
    for (body, cause) in cases {
        let expected = format!("Error: failed to serialize or deserialize exec-server JSON: {cause}\n");
        assert_eq!(printed(Contract::Noise, Answer::ok(body)).await, expected, "{body}");
    }
}

#[tokio::test]
async fn an_answer_for_another_environment_or_profile_is_refused() {
    let good = Contract::Noise.registered("ws://127.0.0.1:1");
    let with = |member: &str, value: &str| {
        let mut body = good.clone();
        body[member] = json!(value);
        Answer::ok(body)
    };
    let cases = [
        (with("environment_id", "other"), "environment registry returned a different environment id"),
        (
            with("security_profile", "plain"),
            "environment registry returned unsupported security profile `plain`",
        ),
    ];
    for (answer, text) in cases {
        assert_eq!(
            printed(Contract::Noise, answer).await,
            format!("Error: exec-server protocol error: {text}\n")
        );
    }
}

#[tokio::test]
async fn a_registry_of_another_contract_gets_an_error_that_names_the_flag() {
    for asked in Contract::ALL {
        for answered in Contract::ALL {
            let name = match answered {
                Contract::Cloud => "cloud",
                Contract::Executor => "executor",
                Contract::Environment => "environment",
                Contract::Noise => "noise",
            };
            // D asks for the least of those with an environment: it takes their answers.
            let accepted =
                asked == answered || (asked == Contract::Environment && answered != Contract::Executor);
            if !accepted {
                let told = printed(asked, Answer::ok(answered.registered("ws://127.0.0.1:1"))).await;
                assert!(
                    told.contains(&format!("try --remote-contract {name}\n")),
                    "{asked:?} {answered:?}: {told}"
                );
            }
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let elsewhere = ScriptedRegistry::answering([Answer::ok("{}")]).await;
        let head = format!("HTTP/1.1 {status}\r\nlocation: {}/x\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
        let told = printed(Contract::Noise, Answer::Raw(head.into_bytes())).await;
        let expected =
            format!("environment registry request failed ({status}): empty or malformed error body");
        assert!(told.contains(&expected), "{told}");
        assert!(elsewhere.asked().is_empty());
    }
}

#[tokio::test]
async fn a_different_id_is_accepted_where_it_is_only_printed() {
    let rendezvous = ScriptedRendezvous::start().await;
    let cases: [(Contract, Value, &str); 2] = [
        (Contract::Executor, json!({"executor_id": "other", "url": rendezvous.url()}), "executor_id other\n"),
        (
            Contract::Environment,
            json!({"environment_id": "other", "url": rendezvous.url()}),
            "environment_id other\n",
        ),
    ];
    for (contract, answer, line) in cases {
        let registry = ScriptedRegistry::answering([Answer::ok(answer)]).await;
        let mut executor = contract.executor(&registry.url).start();
        rendezvous.executor().await;
        executor.tells(line).await;
    }
}

#[tokio::test]
async fn contract_e_retries_what_released_executors_retry_even_at_first() {
    let conflict = r#"{"error":{"code":"registration_conflict","message":"taken"}}"#;
    let away = r#"{"error":{"code":"authentication_service_unavailable","message":"away"}}"#;
    let rendezvous = ScriptedRendezvous::start().await;
    let registry = ScriptedRegistry::answering([
        Answer::status("503 Service Unavailable", conflict),
        Answer::status("502 Bad Gateway", away),
        Answer::ok(Contract::Noise.registered(&rendezvous.url())),
    ])
    .await;
    let _executor = Contract::Noise.executor(&registry.url).start();
    rendezvous.executor().await;
    assert_eq!(registry.asked().len(), 3);
    // Neither the other way round, nor in another contract.
    let swapped = [
        (Contract::Noise, Answer::status("502 Bad Gateway", conflict)),
        (Contract::Environment, Answer::status("503 Service Unavailable", conflict)),
    ];
    for (contract, answer) in swapped {
        assert!(printed(contract, answer).await.contains("request failed"));
    }
}
