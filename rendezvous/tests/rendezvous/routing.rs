//! Rendezvous rules 1 to 8 of section 10, with frames as Noise relays send them.

use bytes::Bytes;
use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Server, Socket, data, handshake, pair, patiently, reset, resume, text};

#[tokio::test]
async fn frames_cross_with_their_bytes_untouched() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    // Fields nobody knows, fields out of order, a trace context: all is passed as it came.
    let odd = Bytes::from_static(b"\x2a\x02\x22\x00\xf8\x06\x05\x12\x01A\x5a\x03t-1\x08\x01\x62\x00");
    for frame in [resume("A"), handshake("A", b"hello"), odd.clone(), data("A", vec![7; 200_000])] {
        harness.send(frame.clone()).await;
        assert_eq!(executor.receive().await, frame);
        executor.send(frame.clone()).await;
        assert_eq!(harness.receive().await, frame);
    }
}

#[tokio::test]
async fn order_is_kept_in_both_directions() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    let numbered = |at: usize| data("A", vec![at as u8; at * 37 % 3000 + 1]);
    for at in 0..300 {
        harness.0.feed(Message::Binary(numbered(at))).await.unwrap();
    }
    harness.0.flush().await.unwrap();
    for at in 0..300 {
        assert_eq!(executor.receive().await, numbered(at));
        executor.0.feed(Message::Binary(numbered(at))).await.unwrap();
    }
    executor.0.flush().await.unwrap();
    for at in 0..300 {
        assert_eq!(harness.receive().await, numbered(at));
    }
}

#[tokio::test]
async fn a_foreign_socket_neither_writes_nor_ends_nor_hears_a_stream() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut owner = server.harness("env").await;
    let mut foreign = server.harness("env").await;
    owner.send(data("A", "mine")).await;
    assert_eq!(executor.said().await, pair("A", "mine"));
    for forged in [data("A", "forged"), handshake("A", b"forged"), resume("A"), reset("A", "forged")] {
        foreign.send(forged).await;
    }
    foreign.send(data("B", "its own")).await;
    assert_eq!(executor.said().await, pair("B", "its own"), "nothing forged arrives before it");
    executor.send(data("A", "for the owner")).await;
    executor.send(data("C", "for nobody")).await;
    executor.send(data("B", "for the other")).await;
    assert_eq!(owner.said().await, pair("A", "for the owner"));
    assert_eq!(foreign.said().await, pair("B", "for the other"));
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains(r#"rendezvous_dropped_frames_total{reason="foreign_stream"} 4"#), "{metrics}");
    assert!(metrics.contains(r#"rendezvous_dropped_frames_total{reason="no_owner"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_reset_that_passes_frees_the_id() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let (mut first, mut second) = (server.harness("env").await, server.harness("env").await);
    first.send(data("A", "1")).await;
    first.send(reset("A", "done")).await;
    for said in ["1", "reset"] {
        assert_eq!(executor.said().await, pair("A", said));
    }
    second.send(data("A", "2")).await;
    assert_eq!(executor.said().await, pair("A", "2"));
    executor.send(reset("A", "noise_relay_protocol_error")).await;
    assert_eq!(second.said().await, pair("A", "reset"));
    first.send(data("A", "3")).await;
    assert_eq!(executor.said().await, pair("A", "3"));
}

#[tokio::test]
async fn a_harness_that_goes_is_reset_at_the_executor_on_each_stream() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut stays = server.harness("env").await;
    stays.send(data("S", "1")).await;
    assert_eq!(executor.said().await, pair("S", "1"));
    for polite in [true, false] {
        let mut goes = server.harness("env").await;
        for id in ["A", "B"] {
            goes.send(data(id, "1")).await;
            assert_eq!(executor.said().await, pair(id, "1"));
        }
        if polite {
            goes.close().await
        } else {
            drop(goes)
        }
        let mut resets = [executor.said().await, executor.said().await];
        resets.sort();
        assert_eq!(resets, [pair("A", "reset"), pair("B", "reset")]);
    }
    executor.send(data("S", "2")).await;
    assert_eq!(stays.said().await, pair("S", "2"));
}

#[tokio::test]
async fn an_executor_that_goes_closes_its_harnesses_and_no_others() {
    let server = Server::start().await;
    let executor = server.executor("env").await.socket;
    let mut other = server.executor("other").await.socket;
    let (mut first, mut second) = (server.harness("env").await, server.harness("env").await);
    let mut elsewhere = server.harness("other").await;
    let (_, answer) = server.connect("env", 9).await;
    executor.close().await;
    assert_eq!(first.closed().await, (1012, "the executor has gone".to_owned()));
    assert_eq!(second.closed().await.0, 1012);
    let (status, reason, _) = Socket::open(text(&answer["url"])).await.unwrap_err();
    assert_eq!((status, reason.as_str()), (503, "route_unavailable"));
    elsewhere.send(data("A", "1")).await;
    assert_eq!(other.said().await, pair("A", "1"));
}

#[tokio::test]
async fn two_environments_share_nothing() {
    let server = Server::start().await;
    let (mut first, mut second) = (server.executor("a").await.socket, server.executor("b").await.socket);
    let (mut to_first, mut to_second) = (server.harness("a").await, server.harness("b").await);
    to_first.send(data("A", "to a")).await;
    to_second.send(data("A", "to b")).await;
    assert_eq!(first.said().await, pair("A", "to a"));
    assert_eq!(second.said().await, pair("A", "to b"));
    second.send(data("A", "from b")).await;
    first.send(data("A", "from a")).await;
    assert_eq!(to_first.said().await, pair("A", "from a"));
    assert_eq!(to_second.said().await, pair("A", "from b"));
}

#[tokio::test]
async fn tickets_of_one_environment_do_not_open_another() {
    let server = Server::start().await;
    let (first, second) = (server.executor("a").await, server.executor("b").await);
    let (_, harness) = server.connect("a", 9).await;
    let harness = text(&harness["url"]);
    for (url, status, reason) in [
        (first.url.replace("environment=a", "environment=b"), 404, "unknown_route"),
        (first.url.replace(&first.registration, &second.registration), 404, "unknown_route"),
        (
            first
                .url
                .replace("environment=a", "environment=b")
                .replace(&first.registration, &second.registration),
            401,
            "invalid_secret",
        ),
        (harness.replace("environment=a", "environment=b"), 401, "invalid_signature"),
        (harness.replace(&first.registration, &second.registration), 401, "invalid_signature"),
        (harness.replace("role=harness", "role=executor"), 400, "missing_signature"),
        (harness.clone() + "&more=1", 400, "extra_query_param"),
        (harness.split("&signature").next().unwrap().to_owned(), 400, "missing_signature"),
        (harness.split('?').next().unwrap().to_owned(), 400, "missing_role"),
    ] {
        let refused = Socket::open(&url).await.unwrap_err();
        assert_eq!((refused.0, refused.1.as_str()), (status, reason), "{url}");
    }
}

#[tokio::test]
async fn what_is_no_frame_is_dropped_and_the_socket_stays() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    let bad = [
        Message::text("text"),
        Message::Binary(Bytes::new()),
        Message::Binary(Bytes::from_static(b"\xff\xff\xff")),
        Message::Binary(Bytes::from_static(b"\x08\x02\x12\x01A\x3a\x00")),
        Message::Binary(Bytes::from_static(b"\x08\x01\x12\x01 \x3a\x00")),
        Message::Binary(Bytes::from_static(b"\x08\x01\x12\x01A")),
    ];
    for message in bad {
        harness.0.send(message.clone()).await.unwrap();
        executor.0.send(message).await.unwrap();
    }
    harness.send(data("A", "1")).await;
    assert_eq!(executor.said().await, pair("A", "1"));
    executor.send(data("A", "2")).await;
    assert_eq!(harness.said().await, pair("A", "2"));
}

#[tokio::test]
async fn messages_up_to_256_kib_pass_and_larger_ones_close_the_socket() {
    let server = Server::start().await;
    let mut executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    let largest = data("A", vec![1; (256 << 10) - 20]);
    assert!(largest.len() <= 256 << 10 && largest.len() > (256 << 10) - 10);
    harness.send(largest.clone()).await;
    assert_eq!(executor.receive().await, largest);
    harness.send(data("A", vec![1; 256 << 10])).await;
    assert_eq!(harness.closed().await.0, 1009);
    assert_eq!(executor.said().await, pair("A", "reset"));
}

#[tokio::test]
async fn pings_are_answered_and_sent_and_a_silent_peer_is_let_go() {
    use futures_util::StreamExt;
    use std::time::Duration;
    let server = Server::start_with(|config| {
        config.limits.times.ping_every = Duration::from_millis(20);
        config.limits.times.silence = Duration::from_millis(200);
    })
    .await;
    // Nothing polls the executor's socket, so nothing answers the pings.
    let executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    harness.0.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    let (mut pinged, mut answered) = (false, false);
    while !(pinged && answered) {
        match patiently(harness.0.next()).await.unwrap().unwrap() {
            Message::Ping(_) => pinged = true,
            Message::Pong(payload) => answered = payload == "x",
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(harness.closed().await, (1012, "the executor has gone".to_owned()));
    drop(executor);
}

#[tokio::test]
async fn upgrades_that_are_none_are_refused() {
    let server = Server::start().await;
    let executor = server.executor("env").await;
    let url = executor.url.replace("ws://", "http://");
    let answer = server.http.get(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], json!("not_a_websocket"));
    assert_eq!(server.connect("env", 9).await.0, 200, "the executor is not disturbed");
}

#[tokio::test]
async fn addresses_repeat_the_host_a_request_came_to_unless_the_operator_names_one() {
    let server = Server::start().await;
    let port = server.rendezvous.address().port();
    let request = server.http.post(format!("http://localhost:{port}/cloud/environment/e/register"));
    let answer = request.bearer_auth(&server.token).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert!(text(&answer["url"]).starts_with(&format!("ws://localhost:{port}/rendezvous?")), "{answer}");
    let public = Server::start_with(|config| {
        config.public_url = Some("https://example.org/codex/".parse().unwrap());
    })
    .await;
    let url = text(&public.register("e").await["url"]);
    assert!(url.starts_with("wss://example.org/codex/rendezvous?role=executor&"), "{url}");
    assert_eq!(public.rendezvous.registry_url(), "https://example.org/codex");
}
