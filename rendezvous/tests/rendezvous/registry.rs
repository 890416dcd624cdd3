//! Registry rules 1 to 6 of section 10, and the bodies of sections 3, 6 and 1.2.

use codex_rendezvous::tokens::Role;
use serde_json::{Value, json};

use crate::support::{Server, Socket, key, mint, text};

#[tokio::test]
async fn each_contract_is_answered_in_its_own_shape() {
    let server = Server::start().await;
    let noise = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1)});
    for (path, body, members) in [
        ("/cloud/executor/id-1/register", None, &["executor_id", "url"][..]),
        ("/cloud/environment/id-1/register", None, &["environment_id", "url"]),
        (
            "/cloud/environment/id-1/register",
            Some(noise),
            &["environment_id", "executor_registration_id", "security_profile", "url"],
        ),
    ] {
        let (status, answer) = server.post(path, &server.token, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let mut names: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, members, "{path}");
        assert_eq!(answer[members[0]], "id-1");
        let url = text(&answer["url"]);
        assert!(url.starts_with("ws://127.0.0.1:") && url.contains("role=executor"), "{url}");
        Socket::open(url).await.unwrap();
    }
}

#[tokio::test]
async fn a_registration_without_body_headers_is_taken_as_release_0_131_sends_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.rendezvous.address()).await.unwrap();
    let head = format!(
        "POST /cloud/executor/id-1/register HTTP/1.1\r\nauthorization: Bearer {}\r\naccept: */*\r\n\
         host: {}\r\n\r\n",
        server.token,
        server.rendezvous.address()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn refusals_have_a_status_a_code_and_a_sentence() {
    let server = Server::start_with(|config| config.allow_plain = false).await;
    server.executor("here").await;
    let (only_a, grant_a) = mint(&[Role::Executor], "a");
    let (harness, harness_grant) = mint(&[Role::Harness], "a");
    server.rendezvous.replace_tokens(vec![server.grant.clone(), grant_a, harness_grant]);
    let all = server.token.clone();
    let noise = |profile: &str| json!({"security_profile": profile, "executor_public_key": key(1)});
    let good = Some(noise("noise_hybrid_ik_v1"));
    let connect = Some(json!({"harness_public_key": key(9)}));
    let mut odd_key = key(1);
    odd_key["extra"] = json!(1);
    let odd = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": odd_key});
    let long_id = format!("/cloud/environment/{}/register", "x".repeat(257));
    for (path, token, body, status, code) in [
        ("/cloud/environment/a/register", "wrong", good.clone(), 401, "unauthorized"),
        ("/cloud/environment/a/register", "", good.clone(), 401, "unauthorized"),
        ("/cloud/environment/b/register", &only_a, good.clone(), 403, "forbidden"),
        ("/cloud/environment/a/connect", &only_a, connect.clone(), 403, "forbidden"),
        ("/cloud/environment/a/register", &harness, good.clone(), 403, "forbidden"),
        ("/cloud/environment/here/connect", &harness, connect.clone(), 403, "forbidden"),
        ("/cloud/environment/b/validate", &only_a, Some(json!({})), 401, "forbidden"),
        ("/cloud/environment/a/validate", &harness, Some(json!({})), 401, "forbidden"),
        ("/cloud/environment/a/validate", "wrong", Some(json!({})), 401, "unauthorized"),
        ("/cloud/environment/a.b/register", &all, good.clone(), 400, "invalid_id"),
        (&long_id, &all, good.clone(), 400, "invalid_id"),
        ("/cloud/environment/a/register", &all, Some(json!({"x": 1})), 400, "invalid_request"),
        ("/cloud/environment/a/register", &all, Some(odd), 400, "invalid_request"),
        ("/cloud/environment/a/register", &all, Some(noise("plain")), 400, "unsupported_security_profile"),
        ("/cloud/environment/a/register", &all, None, 400, "plain_relay_not_allowed"),
        ("/cloud/executor/a/register", &all, None, 400, "plain_relay_not_allowed"),
        ("/cloud/executor/a/register", &all, Some(json!({"executor_id": "a"})), 400, "unsupported_contract"),
        ("/cloud/environment/a/register", &all, Some(json!("x".repeat(20_000))), 413, "body_too_large"),
        ("/cloud/environment/a/connect", &all, connect, 404, "environment_not_found"),
        ("/cloud/environment/a/connect", &all, Some(json!({})), 400, "invalid_request"),
        ("/api/cloud/executor", &all, Some(json!({})), 404, "unknown_route"),
        ("/cloud/environment/a/direct/register", &all, Some(json!({})), 404, "unknown_route"),
    ] {
        let (seen, answer) = server.post(path, token, body).await;
        assert_eq!((seen, answer["error"]["code"].as_str()), (status, Some(code)), "{path}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().len() > 10, "{answer}");
        assert!(token.is_empty() || !answer.to_string().contains(token), "a token is repeated");
    }
}

#[tokio::test]
async fn requests_of_web_pages_are_not_answered() {
    let server = Server::start().await;
    let request = server.http.get(server.url("/readyz")).header("origin", "https://example.org");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 403);
}

#[tokio::test]
async fn connect_says_away_until_the_executor_is_there_and_again_when_it_goes() {
    let server = Server::start().await;
    let registered = server.register("env").await;
    let (status, answer) = server.connect("env", 9).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("no_online_executor")));
    let socket = Socket::open(text(&registered["url"])).await.unwrap();
    let (status, answer) = server.connect("env", 9).await;
    assert_eq!(status, 200);
    for (member, value) in [
        ("environment_id", json!("env")),
        ("security_profile", json!("noise_hybrid_ik_v1")),
        ("executor_registration_id", registered["executor_registration_id"].clone()),
        ("executor_public_key", key(1)),
    ] {
        assert_eq!(answer[member], value, "{member}");
    }
    assert!(text(&answer["url"]).contains("role=harness"));
    let authorization = text(&answer["harness_key_authorization"]);
    assert!(authorization.len() >= 40 && authorization.len() <= 4096);
    socket.close().await;
    assert_eq!(server.connect("env", 9).await.0, 503);
    let (status, answer) = server.post("/cloud/environment/plain/register", &server.token, None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.connect("plain", 9).await.0, 409);
}

#[tokio::test]
async fn validate_answers_true_once_for_the_right_key_and_registration_and_200_always() {
    let server = Server::start().await;
    let executor = server.executor("env").await;
    let other = server.executor("other").await;
    let authorize = async || text(&server.connect("env", 9).await.1["harness_key_authorization"]);
    let authorization = authorize().await;
    let right = executor.registration.as_str();
    for (id, registration, harness, authorization, valid) in [
        ("env", right, 8, authorization.as_str(), false),
        ("env", right, 9, "guess", false),
        ("env", right, 9, "", false),
        ("env", other.registration.as_str(), 9, &authorization, false),
        ("other", other.registration.as_str(), 9, &authorization, false),
        ("other", right, 9, &authorization, false),
        ("nowhere", right, 9, &authorization, false),
        ("env", right, 9, &authorization, true),
        ("env", right, 9, &authorization, false),
    ] {
        let answer = server.validate(id, registration, harness, authorization).await;
        assert_eq!(answer, (200, json!({"valid": valid})), "{id} {registration} {harness}");
    }
    for body in [json!({}), json!("x"), json!({"harness_public_key": "x"}), Value::Null] {
        let answer = server.post("/cloud/environment/env/validate", &server.token, Some(body)).await;
        assert_eq!(answer, (200, json!({"valid": false})));
    }
}

#[tokio::test]
async fn authorizations_and_tickets_expire() {
    let life = std::time::Duration::from_millis(1);
    let server = Server::start_with(|config| config.limits.callers.ticket_life = life).await;
    let executor = server.executor("env").await;
    let (_, answer) = server.connect("env", 9).await;
    // Tickets count in whole seconds; this one was made for the second that has begun.
    let authorization = text(&answer["harness_key_authorization"]);
    let refused = Socket::open(text(&answer["url"])).await.unwrap_err();
    assert_eq!(refused, (401, "expired".to_owned(), "expired".to_owned()));
    let answer = server.validate("env", &executor.registration, 9, &authorization).await;
    assert_eq!(answer, (200, json!({"valid": false})));
}

#[tokio::test]
async fn the_newest_registration_wins() {
    let server = Server::start().await;
    let mut first = server.executor("env").await;
    let mut harness = server.harness("env").await;
    let (_, stale) = server.connect("env", 9).await;
    let second = server.register("env").await;
    assert_eq!(first.socket.closed().await.0, 1012);
    assert_eq!(harness.closed().await.0, 1012);
    assert_ne!(text(&second["executor_registration_id"]), first.registration);
    let refused = Socket::open(&first.url).await.unwrap_err();
    assert_eq!(refused, (404, "unknown_route".to_owned(), "unknown_route".to_owned()));
    let refused = Socket::open(text(&stale["url"])).await.unwrap_err();
    assert_eq!((refused.0, refused.1.as_str()), (401, "unexpected_executor_registration_id"));
    Socket::open(text(&second["url"])).await.unwrap();
}

#[tokio::test]
async fn a_registration_outlives_its_websocket() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await;
    for _ in 0..3 {
        executor.socket.close().await;
        executor.socket = Socket::open(&executor.url).await.unwrap();
    }
    let mut older = std::mem::replace(&mut executor.socket, Socket::open(&executor.url).await.unwrap());
    assert_eq!(older.closed().await.0, 1012, "the newer socket of one registration wins too");
    assert_eq!(server.connect("env", 9).await.0, 200);
}

#[tokio::test]
async fn what_is_forgotten_is_answered_with_4xx_so_that_executors_register_again() {
    let server = Server::start().await;
    let executor = server.executor("env").await;
    let newer = Server::start_as(server.token.clone(), server.grant.clone(), |_| ()).await;
    let moved = executor
        .url
        .replace(&server.rendezvous.address().to_string(), &newer.rendezvous.address().to_string());
    let (status, reason, _) = Socket::open(moved).await.unwrap_err();
    assert_eq!((status, reason.as_str()), (404, "unknown_route"));
}

#[tokio::test]
async fn a_restart_with_a_store_loses_no_registration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registrations");
    let server = Server::start_with(|config| config.store = Some(path.clone())).await;
    let (token, grant) = (server.token.clone(), server.grant.clone());
    let mut executors = vec![server.executor("a").await, server.executor("b").await];
    let replaced = server.executor("c").await;
    executors.push(server.executor("c").await);
    server.rendezvous.drain().await;
    let server = Server::start_as(token, grant, |config| config.store = Some(path)).await;
    let here = server.rendezvous.address().to_string();
    let moved = |url: &str| {
        let (before, after) = url.split_once("/rendezvous").unwrap();
        assert!(before.starts_with("ws://"));
        format!("ws://{here}/rendezvous{after}")
    };
    assert_eq!(Socket::open(moved(&replaced.url)).await.unwrap_err().0, 404);
    for (id, executor) in ["a", "b", "c"].into_iter().zip(executors) {
        assert_eq!(server.connect(id, 9).await.0, 503, "away until it comes back");
        let _socket = Socket::open(moved(&executor.url)).await.unwrap();
        let (status, answer) = server.connect(id, 9).await;
        assert_eq!(status, 200);
        assert_eq!(text(&answer["executor_registration_id"]), executor.registration);
        let authorization = text(&answer["harness_key_authorization"]);
        let valid = server.validate(id, &executor.registration, 9, &authorization).await;
        assert_eq!(valid, (200, json!({"valid": true})));
    }
}

#[tokio::test]
async fn the_store_and_the_metrics_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registrations");
    let server = Server::start_with(|config| config.store = Some(path.clone())).await;
    let executor = server.executor("secret-env").await;
    let _harness = server.harness("secret-env").await;
    let (_, metrics) = server.get("/metrics").await;
    assert!(!metrics.contains("secret-env") && !metrics.contains(&executor.registration), "{metrics}");
    let secret = executor.url.split("secret=").nth(1).unwrap().to_owned();
    let token = server.token.clone();
    server.rendezvous.drain().await;
    let stored = std::fs::read(path).unwrap();
    let holds = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("secret-env") && !holds(&secret) && !holds(&token));
}
