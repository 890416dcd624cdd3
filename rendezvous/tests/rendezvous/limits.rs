//! The bounds of a token and of the server.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, Socket, data, eventually, pair, patiently, text};

#[tokio::test]
async fn a_token_that_asks_too_often_is_slowed_down_and_registrations_in_the_form_that_is_tried_again() {
    let server = Server::start_with(|config| {
        config.limits.callers.requests_per_second = 1;
        config.limits.callers.request_burst = 3;
    })
    .await;
    let _executor = server.executor("env").await;
    assert_eq!(server.connect("env", 9).await.0, 200);
    let (status, answer) = server.connect("env", 9).await;
    assert_eq!((status, text(&answer["error"]["code"]).as_str()), (429, "too_many_requests"));
    let (status, answer) = server.post("/cloud/environment/env/register", &server.token, None).await;
    assert_eq!((status, text(&answer["error"]["code"]).as_str()), (503, "registration_conflict"));
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_token_has_only_so_many_environments_but_those_away_make_room() {
    let server = Server::start_with(|config| config.limits.callers.environments = 2).await;
    let _first = server.executor("a").await;
    let second = server.executor("b").await;
    let (status, answer) = server.post("/cloud/environment/c/register", &server.token, None).await;
    assert_eq!((status, text(&answer["error"]["code"]).as_str()), (429, "too_many_environments"));
    second.socket.close().await;
    // The server notes the end when its side of the socket is done.
    eventually("b makes room for c", async || {
        server.post("/cloud/environment/c/register", &server.token, None).await.0 == 200
    })
    .await;
    assert_eq!(Socket::open(&second.url).await.unwrap_err().0, 404, "b was forgotten");
    assert_eq!(server.connect("a", 9).await.0, 200);
}

#[tokio::test]
async fn a_token_has_only_so_many_sockets_and_streams() {
    let server = Server::start_with(|config| {
        config.limits.callers.sockets = 2;
        config.limits.callers.streams = 3;
        config.limits.callers.socket_streams = 2;
    })
    .await;
    let mut executor = server.executor("env").await.socket;
    let (mut first, mut second) = (server.harness("env").await, server.harness("env").await);
    let (_, answer) = server.connect("env", 9).await;
    assert_eq!(Socket::open(text(&answer["url"])).await.unwrap_err().0, 429);
    for id in ["A", "B"] {
        first.send(data(id, "1")).await;
        assert_eq!(executor.said().await, pair(id, "1"));
    }
    first.send(data("C", "1")).await;
    assert_eq!(first.said().await, pair("C", "reset"), "two for a socket");
    second.send(data("D", "1")).await;
    assert_eq!(executor.said().await, pair("D", "1"));
    second.send(data("E", "1")).await;
    assert_eq!(second.said().await, pair("E", "reset"), "three for the token");
    let (_, metrics) = server.get("/metrics").await;
    for line in [
        "rendezvous_streams 3",
        "rendezvous_harnesses 2",
        "rendezvous_executors 1",
        "rendezvous_environments 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn connections_over_the_bound_are_closed() {
    let server = Server::start_with(|config| config.limits.callers.connections = 2).await;
    let executor = server.executor("env").await;
    // The executor holds one place, the connection that registered it another.
    let mut refused = TcpStream::connect(server.rendezvous.address()).await.unwrap();
    assert!(matches!(patiently(refused.read(&mut [0])).await, Ok(0) | Err(_)));
    assert_eq!(server.connect("env", 9).await.0, 200);
    drop(executor);
}

#[tokio::test]
async fn heads_that_take_too_long_or_are_too_large_end_the_connection() {
    let server =
        Server::start_with(|config| config.limits.times.request_time = Duration::from_millis(200)).await;
    let mut slow = TcpStream::connect(server.rendezvous.address()).await.unwrap();
    slow.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = patiently(slow.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let mut body = TcpStream::connect(server.rendezvous.address()).await.unwrap();
    let head = format!(
        "POST /cloud/environment/a/validate HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\
         authorization: Bearer {}\r\n\r\n",
        server.token
    );
    body.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    patiently(body.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    let mut large = TcpStream::connect(server.rendezvous.address()).await.unwrap();
    let head = format!("GET /readyz HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let _ = large.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = patiently(large.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}
