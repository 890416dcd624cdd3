//! `codex exec-server forward`: a server that runs already, lent to a registry (11).

use codex_e2e::registry::{Answer, ScriptedRegistry};
use codex_e2e::relay::{PlainHarnesses, data, reset};
use codex_e2e::{Executor, ExecutorBuilder, ScriptedRendezvous, Server};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{BEARER, Contract};

/// A forwarder of contract D to this URL.
fn forwarder(registry: &str, connect: &str) -> ExecutorBuilder {
    ExecutorBuilder::forward(registry, connect)
        .args(["--environment-id", "id-1", "--remote-contract", "environment"])
        .env("CODEX_API_KEY", BEARER)
}

async fn stage() -> (ScriptedRegistry, ScriptedRendezvous) {
    Contract::Environment.stage().await
}

fn url(server: &Server) -> String {
    format!("ws://{}", server.address())
}

/// The websocket of a forwarder that has attached `times` times.
async fn attached(rendezvous: &ScriptedRendezvous, executor: &mut Executor, times: usize) -> PlainHarnesses {
    let socket = rendezvous.executor().await;
    executor.tells_times("attached", times).await;
    PlainHarnesses::on(socket)
}

#[tokio::test]
async fn each_stream_has_a_connection_of_its_own_and_sessions_outlive_rendezvous_and_forwarder() {
    let server = Server::start().await;
    let (registry, rendezvous) = stage().await;
    let mut executor = forwarder(&registry.url, &url(&server)).start();
    let harnesses = attached(&rendezvous, &mut executor, 1).await;
    let (mut first, mut second) = (harnesses.client("A"), harnesses.client("B"));
    first.handshake().await;
    second.handshake().await;
    assert_ne!(first.session_id, second.session_id);
    let ended = first.run("p", "echo out; exit 4").await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("out\n", 4));
    // More than fits into any queue on the way.
    let ended = second.run("p", "head -c 5000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(ended.stdout().len(), 5_000_000);
    first.shell_with("q", "read x; echo got $x", json!({"pipeStdin": true})).await;
    let session = first.session_id.clone();
    harnesses.cut();

    let harnesses = attached(&rendezvous, &mut executor, 2).await;
    harnesses.client("C").resume(&session).await.expect("the session waits at the server");
    assert_eq!(executor.stop().await.code, Some(0));

    // Another forwarder; the first one did not say that the session is over.
    let mut executor = forwarder(&registry.url, &url(&server)).start();
    let harnesses = attached(&rendezvous, &mut executor, 1).await;
    let mut client = harnesses.client("D");
    client.resume(&session).await.expect("the session still waits");
    client.write("q", "me\n").await;
    assert_eq!(client.finish("q").await.stdout(), "got me\n");
}

#[tokio::test]
async fn messages_pass_unchanged_as_binary_frames_and_each_end_closes_the_other() {
    let (registry, rendezvous) = stage().await;
    let destination = ScriptedRendezvous::start().await;
    let mut executor = forwarder(&registry.url, &destination.url())
        .env("CODEX_EXEC_SERVER_TOKEN", codex_e2e::secret!("of-the-server"))
        .env("RUST_LOG", "warn")
        .start();
    let mut harnesses = attached(&rendezvous, &mut executor, 1).await;
    for message in ["{\"id\":1,  \"method\":\"any\"}", "{\"method\":\"other\"}"] {
        harnesses.frame(data("S", 0, message.as_bytes()));
        let attempt = destination.attempt().await;
        let wanted = format!("authorization: Bearer {}\r\n", codex_e2e::secret!("of-the-server"));
        assert!(attempt.head.contains(&wanted), "{}", attempt.head);
        assert!(attempt.head.starts_with("GET /rv/executor?role=executor"), "{}", attempt.head);
        let mut server = attempt.accept().await;
        assert_eq!(server.next().await, Some(Message::binary(message.as_bytes().to_vec())));
        for answer in [Message::text("{ \"x\": 1 }"), Message::binary(b"{ \"x\": 1 }".to_vec())] {
            server.message(answer).await;
            let frame = harnesses.other().await;
            assert_eq!((frame.stream.as_str(), frame.payload.as_slice()), ("S", &b"{ \"x\": 1 }"[..]));
        }
        server.message(Message::Ping(b"there?".as_slice().into())).await;
        assert_eq!(server.next_of_any_kind().await, Some(Message::Pong(b"there?".as_slice().into())));
        // The harness goes.
        harnesses.frame(reset("S", "bye"));
        assert!(matches!(server.next().await, Some(Message::Close(_)) | None));
    }
    // The server goes.
    harnesses.frame(data("T", 0, br#"{"method":"x"}"#));
    drop(destination.executor().await);
    executor.tells("a stream was ended: the server at ws://127.0.0.1").await;
}

#[tokio::test]
async fn a_stream_whose_server_can_not_be_used_ends_and_the_forwarder_says_why() {
    let server = Server::builder()
        .args(["--ws-auth", "capability-token", "--ws-token-sha256", &"0".repeat(64)])
        .start()
        .await;
    let refusing = url(&server);
    for (connect, expected) in [("ws://127.0.0.1:1", "refused"), (refusing.as_str(), "401")] {
        let (registry, rendezvous) = stage().await;
        let mut executor = forwarder(&registry.url, connect).env("RUST_LOG", "warn").start();
        let harnesses = attached(&rendezvous, &mut executor, 1).await;
        for (number, stream) in (1..).zip(["A", "B"]) {
            harnesses.frame(data(stream, 0, br#"{"method":"x"}"#));
            executor.tells_times("a stream was ended: the server at ws://127.0.0.1", number).await;
        }
        assert!(executor.told().contains(expected), "{}", executor.told());
        assert_eq!(executor.stop().await.code, Some(0));
    }
}

#[tokio::test]
async fn what_can_not_be_forwarded_is_refused_before_anything_is_sent() {
    let registry = ScriptedRegistry::answering([Answer::status("500 Oops", "")]).await;
    let cases: [(&str, &[&str], &str); 6] = [
        ("http://127.0.0.1:1", &["--environment-id", "e"], "not ws or wss"),
        ("ws://user@127.0.0.1:1", &["--environment-id", "e"], "never sent"),
        ("ws://server.test", &["--environment-id", "e"], "only sent over wss://"),
        ("ws://127.0.0.1:1", &[], "--environment-id <ID>"),
        ("ws://127.0.0.1:1", &["--environment-id", "e", "--listen", "ws://127.0.0.1:0"], "--listen"),
        (
            "ws://127.0.0.1:1",
            &["--environment-id", "e", "--remote-contract", "executor"],
            "--executor-id <ID>",
        ),
    ];
    for (connect, flags, expected) in cases {
        let outcome = ExecutorBuilder::forward(&registry.url, connect)
            .args(["--remote-contract", "noise"].iter().filter(|_| flags.is_empty()))
            .args(flags)
            .env("CODEX_EXEC_SERVER_TOKEN", codex_e2e::secret!("of-the-server"))
            .env("CODEX_API_KEY", BEARER)
            .outcome()
            .await;
        assert_eq!(outcome.code, Some(2), "{connect} {flags:?}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "{connect} {flags:?}: {outcome:?}");
    }
    assert!(registry.asked().is_empty());
    let mut bare = std::process::Command::new(codex_e2e::binary::codex());
    let output =
        bare.args(["exec-server", "forward", "--connect", "ws://127.0.0.1:1"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("--remote <URL>"), "{told}");
}
