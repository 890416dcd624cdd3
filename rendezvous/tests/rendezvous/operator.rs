//! What an operator does: end it, change tokens, look at the metrics.

use std::time::Duration;

use codex_rendezvous::tokens::Role;

use crate::support::{Server, Socket, data, mint, pair, text};

#[tokio::test]
async fn draining_closes_every_socket_with_1012_and_lets_nobody_in() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await;
    let mut harness = server.harness("env").await;
    harness.send(data("A", "1")).await;
    assert_eq!(executor.socket.said().await, pair("A", "1"));
    let address = server.rendezvous.address();
    let (_, code, harness_code) =
        tokio::join!(server.rendezvous.drain(), executor.socket.closed(), harness.closed());
    assert_eq!((code.0, harness_code.0), (1012, 1012));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn while_it_drains_requests_are_told_to_come_again() {
    let server = Server::start_with(|config| config.limits.times.farewell = Duration::from_secs(600)).await;
    // Nothing reads this socket, so nothing answers its close, and the drain waits for it.
    let executor = server.executor("env").await;
    let (_, harness) = server.connect("env", 9).await;
    let Server { rendezvous, token, grant, http } = server;
    let url = rendezvous.local_url().to_owned();
    let drain = tokio::spawn(rendezvous.drain());
    let ask = async |method: reqwest::Method, path: &str| {
        let answer = http.request(method, format!("{url}{path}")).bearer_auth(&token).send().await.unwrap();
        let reason = answer.headers().get("x-codex-rendezvous-rejection-reason").cloned();
        let body: serde_json::Value = answer.json().await.unwrap_or_default();
        (reason.map(|reason| reason.to_str().unwrap().to_owned()), text(&body["error"]["code"]))
    };
    let status = async || http.get(format!("{url}/readyz")).send().await.unwrap().status().as_u16();
    crate::support::patiently(async { while status().await != 503 {} }).await;
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    for path in ["/cloud/environment/env/register", "/cloud/executor/env/register"] {
        assert_eq!(ask(post.clone(), path).await, (None, "registration_conflict".to_owned()), "{path}");
    }
    let draining = (Some("pod_draining".to_owned()), "pod_draining".to_owned());
    for path in ["/cloud/environment/env/connect", "/cloud/environment/env/validate"] {
        assert_eq!(ask(post.clone(), path).await, draining, "{path}");
    }
    let ticket = text(&harness["url"]);
    let path = ticket.split_once("/rendezvous").unwrap().1;
    assert_eq!(ask(get, &format!("/rendezvous{path}")).await, draining);
    assert_eq!(Socket::open(&executor.url).await.unwrap_err().0, 503);
    drop(executor);
    crate::support::patiently(drain).await.unwrap();
    drop(grant);
}

#[tokio::test]
async fn a_token_that_is_taken_away_loses_its_sockets() {
    let server = Server::start().await;
    let (token, grant) = mint(&[Role::Executor, Role::Harness], "a,b");
    server.rendezvous.replace_tokens(vec![server.grant.clone(), grant.clone()]);
    let other = Server { token, ..server };
    let mut first = other.executor("a").await;
    let mut second = other.executor("b").await;
    let mut harness = other.harness("b").await;
    let narrowed = codex_rendezvous::tokens::Grant {
        scope: codex_rendezvous::tokens::scope("b").unwrap(),
        ..grant.clone()
    };
    other.rendezvous.replace_tokens(vec![other.grant.clone(), narrowed]);
    assert_eq!(first.socket.closed().await.0, 1008);
    let (status, reason, _) = Socket::open(&first.url).await.unwrap_err();
    assert_eq!((status, reason.as_str()), (401, "invalid_secret"));
    harness.send(data("A", "1")).await;
    assert_eq!(second.socket.said().await, pair("A", "1"));
    other.rendezvous.replace_tokens(vec![other.grant.clone()]);
    assert!(matches!(harness.closed().await.0, 1008 | 1012));
    assert_eq!(second.socket.closed().await.0, 1008);
    assert_eq!(other.connect("b", 9).await.0, 401);
}

#[tokio::test]
async fn readiness_needs_no_token_and_the_metrics_need_one_when_they_are_not_open() {
    let server = Server::start_with(|config| config.open_metrics = false).await;
    assert_eq!(server.get("/readyz").await, (200, String::new()));
    assert_eq!(server.get("/metrics").await.0, 401);
    let (harness, harness_grant) = mint(&[Role::Harness], "*");
    server.rendezvous.replace_tokens(vec![server.grant.clone(), harness_grant]);
    let ask = async |token: &str| {
        let answer = server.http.get(server.url("/metrics")).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ask(&harness).await.0, 403);
    let (status, metrics) = ask(&server.token).await;
    assert_eq!(status, 200);
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn the_metrics_count_bytes_frames_and_refusals() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    let frame = data("A", "1");
    harness.send(frame.clone()).await;
    executor.receive().await;
    server.post("/cloud/environment/env/connect", "wrong", None).await;
    let (_, answer) = server.connect("env", 9).await;
    let forged = text(&answer["url"]).replace("expires=", "expires=1");
    assert_eq!(Socket::open(forged).await.unwrap_err().0, 401);
    let (_, metrics) = server.get("/metrics").await;
    for line in [
        format!("rendezvous_relayed_bytes_total{{direction=\"to_executor\"}} {}", frame.len()),
        "rendezvous_frames_total{direction=\"to_executor\"} 1".to_owned(),
        "rendezvous_frames_total{direction=\"to_harness\"} 0".to_owned(),
        "rendezvous_refusals_total{reason=\"unauthorized\"} 1".to_owned(),
        "rendezvous_refusals_total{reason=\"invalid_signature\"} 1".to_owned(),
        "rendezvous_queued_bytes 0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}
