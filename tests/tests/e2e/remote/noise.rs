//! The Noise relay with our own initiator as the harness (sections 6.3, 7 and 8).

use std::sync::{Arc, Mutex};

use codex_e2e::registry::{Answer, Asked};
use codex_e2e::relay::{NoiseTarget, bytes_field, data, frame, noise_client, noise_stream, parse, reset};
use codex_e2e::rendezvous::ExecutorSocket;
use codex_e2e::{Executor, ScriptedRegistry, ScriptedRendezvous};
use codex_exec_server::protocol::registry::PublicKey;
use codex_relay::{HarnessError, Identity};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{BEARER, Contract};

/// What the registry says of a handshake.
type Validation = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

struct Stage {
    registry: ScriptedRegistry,
    rendezvous: ScriptedRendezvous,
    executor: Executor,
    target: NoiseTarget,
    identity: Identity,
}

async fn attached(validation: Validation) -> (Stage, ExecutorSocket) {
    let rendezvous = ScriptedRendezvous::start().await;
    let registered = Contract::Noise.registered(&rendezvous.url());
    let registry = ScriptedRegistry::scripted(Box::new(move |_, asked| {
        if asked.line().ends_with("/validate") { validation(asked) } else { Answer::ok(&registered) }
    }))
    .await;
    let executor = Contract::Noise.executor(&registry.url).start();
    let key = registry.request(1).await.json()["executor_public_key"].clone();
    let executor_public_key: PublicKey = serde_json::from_value(key).expect("a public key");
    let target = NoiseTarget {
        environment_id: "id-1".into(),
        registration_id: "reg-1".into(),
        executor_public_key,
        authorization: "let me in".into(),
    };
    let identity = Identity::generate().expect("an identity");
    let socket = rendezvous.executor().await;
    (Stage { registry, rendezvous, executor, target, identity }, socket)
}

fn valid() -> Validation {
    Box::new(|_| Answer::ok(json!({"valid": true, "extra": 1})))
}

const STREAM: &str = "0b0ad7a4-7a5c-4d4e-9b8e-2f1a1c0d9e11";

#[tokio::test]
async fn a_large_file_is_whole_over_an_encrypted_stream() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("large");
    let content = crate::large_files::content((9 << 20) + 1);
    std::fs::write(&path, &content).expect("written");
    let (stage, socket) = attached(valid()).await;
    let (mut client, driving) = noise_client(socket, noise_stream(&stage.identity, &stage.target, STREAM));
    client.handshake().await;
    let read = client.ok("fs/readFile", json!({"path": path})).await;
    assert!(codex_e2e::bytes_of(&read["dataBase64"]) == content);
    driving.abort();
}

#[tokio::test]
async fn a_program_runs_over_an_encrypted_stream_and_its_session_survives_a_cut() {
    let (stage, socket) = attached(valid()).await;
    let stream = noise_stream(&stage.identity, &stage.target, STREAM);
    let (mut client, driving) = noise_client(socket, stream);
    client.handshake().await;
    let ended = client.run("p", "echo out; exit 4").await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("out\n", 4));
    client.shell_with("q", "read x; echo got $x", json!({"pipeStdin": true})).await;
    let session = client.session_id.clone();
    driving.abort();
    // The registration is kept: the same URL, and no further request but the handshake's.
    let socket = stage.rendezvous.executor().await;
    let stream = noise_stream(&stage.identity, &stage.target, "another stream");
    let (mut client, _driving) = noise_client(socket, stream);
    client.resume(&session).await.expect("the session waits");
    client.write("q", "me\n").await;
    assert_eq!(client.finish("q").await.stdout(), "got me\n");
    let lines: Vec<String> = stage.registry.asked().iter().map(|asked| asked.line().to_string()).collect();
    let validate = "POST /cloud/environment/id-1/validate";
    assert_eq!(lines, ["POST /cloud/environment/id-1/register", validate, validate]);
    assert_eq!(stage.executor.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_handshake_is_validated_in_the_released_form() {
    for (stream_id, header) in [(STREAM, Some(STREAM)), ("not a uuid", None)] {
        let (stage, socket) = attached(valid()).await;
        let stream = noise_stream(&stage.identity, &stage.target, stream_id);
        let (mut client, _driving) = noise_client(socket, stream);
        client.handshake().await;
        let asked = stage.registry.request(2).await;
        assert_eq!(asked.line(), "POST /cloud/environment/id-1/validate");
        assert_eq!(asked.header("authorization"), Some(format!("Bearer {BEARER}").as_str()));
        assert_eq!(asked.header("x-codex-noise-stream-id"), header);
        assert!(asked.header("user-agent").is_none());
        let key = serde_json::to_string(stage.identity.public_key()).unwrap();
        let expected = format!(
            r#"{{"executor_registration_id":"reg-1","harness_public_key":{key},"harness_key_authorization":"let me in"}}"#
        );
        assert_eq!(String::from_utf8(asked.body).unwrap(), expected);
    }
}

/// The next frame of the executor.
async fn next(socket: &mut ExecutorSocket) -> codex_e2e::relay::Frame {
    match socket.next().await {
        Some(Message::Binary(bytes)) => parse(&bytes),
        other => panic!("no frame: {other:?}"),
    }
}

/// Sends a handshake for a stream; the frames of the initiator in order.
async fn knock(socket: &mut ExecutorSocket, stage: &Stage, id: &str) -> codex_relay::HarnessStream {
    let mut stream = noise_stream(&stage.identity, &stage.target, id);
    while let Some(frame) = stream.next_transmit().expect("frames") {
        socket.send(frame.to_vec()).await;
    }
    stream
}

#[tokio::test]
async fn whatever_is_no_clear_yes_refuses_the_handshake() {
    let refusals = [
        Answer::ok(json!({"valid": false})),
        Answer::ok(json!({})),
        Answer::ok(json!({"valid": "true"})),
        Answer::ok("no json"),
        Answer::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        Answer::status("302 Found", json!({"valid": true})),
        Answer::status("403 Forbidden", json!({"valid": true})),
        Answer::status("500 Internal Server Error", json!({"valid": true})),
        Answer::Raw(Vec::new()),
    ];
    for answer in refusals {
        let shown = format!("{answer:?}");
        let (stage, mut socket) = attached(Box::new(move |_| answer.clone())).await;
        knock(&mut socket, &stage, STREAM).await;
        let reset = next(&mut socket).await;
        assert_eq!((reset.stream.as_str(), reset.body), (STREAM, 8), "{shown}");
        assert_eq!(reset.payload, b"noise_relay_protocol_error", "{shown}");
    }
}

#[tokio::test]
async fn a_401_tells_the_harness_that_the_executor_is_refused() {
    let (stage, mut socket) = attached(Box::new(|_| Answer::status("401 Unauthorized", ""))).await;
    let mut stream = knock(&mut socket, &stage, STREAM).await;
    let Some(Message::Binary(answer)) = socket.next().await else { panic!("no handshake") };
    assert_eq!(parse(&answer).payload.len(), 3465);
    assert_eq!(stream.receive(answer), Err(HarnessError::ExecutorCredential));
}

#[tokio::test]
async fn a_slow_validation_holds_up_nobody_else() {
    let first: Arc<Mutex<bool>> = Arc::new(Mutex::new(true));
    let (stage, mut socket) =
        attached(Box::new(move |_| match std::mem::take(&mut *first.lock().unwrap()) {
            true => Answer::Silence,
            false => Answer::ok(json!({"valid": true})),
        }))
        .await;
    knock(&mut socket, &stage, "slow").await;
    stage.registry.request(2).await;
    knock(&mut socket, &stage, "quick").await;
    let answer = next(&mut socket).await;
    assert_eq!((answer.stream.as_str(), answer.body), ("quick", 10));
    // Data while its handshake is pending drops the slow one.
    socket.send(data("slow", 0, b"early")).await;
    let reset = next(&mut socket).await;
    assert_eq!((reset.stream.as_str(), reset.body), ("slow", 8));
}

#[tokio::test]
async fn bad_frames_are_dropped_and_bad_data_ends_its_stream_only() {
    let (stage, mut socket) = attached(valid()).await;
    let mut good = knock(&mut socket, &stage, "good").await;
    let Some(Message::Binary(answer)) = socket.next().await else { panic!("no handshake") };
    good.receive(answer).expect("admitted");
    knock(&mut socket, &stage, "bad").await;
    assert_eq!(next(&mut socket).await.body, 10);
    for dropped in [vec![], vec![0xff; 9], data("good", 0, b""), frame("good", 9, &[]), frame("good", 6, &[])]
    {
        socket.send(dropped).await;
    }
    socket.message(Message::text("text")).await;
    socket.send(data("unknown", 0, b"data")).await;
    assert_eq!(next(&mut socket).await.stream, "unknown", "a reset for an unknown stream");
    socket.send(frame("good", 10, &bytes_field(1, b"again"))).await;
    let reset = next(&mut socket).await;
    assert_eq!(
        (reset.stream.as_str(), reset.body),
        ("good", 8),
        "a second handshake is reset, its stream unharmed"
    );
    socket.send(data("bad", 0, &[7; 40])).await;
    let reset = next(&mut socket).await;
    assert_eq!((reset.stream.as_str(), reset.body), ("bad", 8));
    let request = json!({"id": 1, "method": "initialize", "params": {"clientName": "t"}}).to_string();
    good.send(request.into_bytes().into()).expect("room");
    while let Some(frame) = good.next_transmit().expect("numbers") {
        socket.send(frame.to_vec()).await;
    }
    let Some(Message::Binary(answer)) = socket.next().await else { panic!("no answer") };
    good.receive(answer).expect("a good record");
    let answer = good.next_message().expect("a message");
    assert!(answer.starts_with(br#"{"id":1,"result":{"sessionId":"#));
    // A reset closes it without an answer, and the id can be used again at once.
    socket.send(reset_of("good")).await;
    knock(&mut socket, &stage, "good").await;
    assert_eq!(next(&mut socket).await.body, 10);
}

fn reset_of(stream: &str) -> Vec<u8> {
    reset(stream, "harness left")
}

#[tokio::test]
async fn a_message_over_256_kib_ends_the_websocket_and_the_registration_is_kept() {
    let (stage, mut socket) = attached(valid()).await;
    socket.send(vec![0; 262_100]).await;
    knock(&mut socket, &stage, "s").await;
    assert_eq!(next(&mut socket).await.body, 10);
    socket.send(vec![0; 263_160]).await;
    while socket.next().await.is_some() {}
    stage.rendezvous.executor().await;
    assert_eq!(stage.registry.asked().len(), 2, "one registration, one validation");
}
