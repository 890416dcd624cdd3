//! The plain relay, by frames made by hand (section 4) and by clients on virtual streams (5.2).

use codex_e2e::relay::{PlainHarnesses, bytes_field, data, frame, number_field, parse, reset};
use codex_e2e::rendezvous::ExecutorSocket;
use codex_e2e::{Executor, ScriptedRegistry, ScriptedRendezvous, bytes_of};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Contract;

/// An attached executor.
struct Stage {
    _registry: ScriptedRegistry,
    rendezvous: ScriptedRendezvous,
    _executor: Executor,
}

async fn attached(contract: Contract) -> (Stage, ExecutorSocket) {
    let (registry, rendezvous) = contract.stage().await;
    let executor = contract.executor(&registry.url).start();
    let socket = rendezvous.executor().await;
    (Stage { _registry: registry, rendezvous, _executor: executor }, socket)
}

fn initialize(id: u64) -> Vec<u8> {
    json!({"id": id, "method": "initialize", "params": {"clientName": "t"}}).to_string().into_bytes()
}

async fn answer(socket: &mut ExecutorSocket) -> (codex_e2e::relay::Frame, Value) {
    match socket.next().await {
        Some(Message::Binary(bytes)) => {
            let frame = parse(&bytes);
            let payload = serde_json::from_slice(&frame.payload).expect("JSON");
            (frame, payload)
        }
        other => panic!("no frame: {other:?}"),
    }
}

#[tokio::test]
async fn frames_go_out_as_captured() {
    let (_stage, mut socket) = attached(Contract::Executor).await;
    socket.send(frame("S1", 7, &[])).await;
    socket.send(data("S1", 0, &initialize(1))).await;
    let Some(Message::Binary(first)) = socket.next().await else { panic!("no answer") };
    assert!(first.starts_with(&[0x08, 0x01, 0x12, 0x02, 0x53, 0x31, 0x2a]), "{first:02x?}");
    let body = [&[0x18, 0x01, 0x22][..], br#"{"id":1,"result":{"sessionId":"#].map(|part| find(&first, part));
    assert!(body[0] < body[1], "segment_count 1, then the payload: {first:02x?}");
    assert_eq!(body[0], 9, "seq 0 is left out, behind a length of two bytes: {first:02x?}");
    socket.send(data("S1", 1, br#"{"id":2,"method":"no/such"}"#)).await;
    let Some(Message::Binary(second)) = socket.next().await else { panic!("no answer") };
    assert_eq!(second[6], 0x2a);
    assert!(find(&second, &[0x08, 0x01, 0x18, 0x01, 0x22]) < 12, "seq 1: {second:02x?}");
}

/// Where a part begins.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap_or_else(|| panic!("no {part:02x?} in {bytes:02x?}"))
}

#[tokio::test]
async fn what_is_no_good_frame_is_dropped_without_a_word() {
    let (_stage, mut socket) = attached(Contract::Executor).await;
    let payload = initialize(1);
    let with_version = |version: u32| {
        let inner = [number_field(3, 1), bytes_field(4, &payload)].concat();
        [number_field(1, version), bytes_field(2, b"D"), bytes_field(5, &inner)].concat()
    };
    let segments = |index: u32, count: u32| {
        frame("D", 5, &[number_field(2, index), number_field(3, count), bytes_field(4, &payload)].concat())
    };
    let dropped = [
        Message::text(String::from_utf8(payload.clone()).unwrap()),
        Message::text("x"),
        Message::binary(vec![]),
        Message::binary(vec![0xff; 7]),
        Message::binary(with_version(0)),
        Message::binary(with_version(2)),
        Message::binary(data("", 0, &payload)),
        Message::binary(data(" \t", 0, &payload)),
        Message::binary([number_field(1, 1), bytes_field(2, b"D")].concat()),
        Message::binary(data("D", 0, b"")),
        Message::binary(segments(0, 0)),
        Message::binary(segments(1, 2)),
        Message::binary(segments(0, 2)),
        Message::binary(data("D", 0, b"[]")),
        Message::binary(data("D", 0, b"{\"id\":1}{\"id\":2}")),
        Message::binary(data("D", 0, b"no json")),
        Message::binary(reset("D", "")),
        Message::binary(reset("D", "unknown stream")),
        // Ack, resume, heartbeat, handshake.
        Message::binary(frame("D", 6, &[])),
        Message::binary(frame("D", 7, &number_field(1, 5))),
        Message::binary(frame("D", 9, &[])),
        Message::binary(frame("D", 10, &bytes_field(1, b"hello"))),
    ];
    for message in dropped {
        socket.message(message).await;
    }
    // The first thing that comes is the answer on a stream that none of them made.
    socket.send(data("good", 7, &payload)).await;
    let (frame, answer) = answer(&mut socket).await;
    assert_eq!((frame.stream.as_str(), frame.seq), ("good", 0), "{answer}");
    assert!(answer["result"]["sessionId"].is_string());
}

#[tokio::test]
async fn any_id_that_is_not_blank_is_a_stream_of_its_own() {
    let (_stage, mut socket) = attached(Contract::Environment).await;
    let long = "x".repeat(5000);
    for id in ["A", " A", "A ", "é", "/", &long] {
        socket.send(data(id, 0, &initialize(1))).await;
        let (frame, answer) = answer(&mut socket).await;
        assert_eq!((frame.stream.as_str(), frame.seq), (id, 0));
        assert!(answer["result"]["sessionId"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn sequence_numbers_of_the_other_side_do_not_matter_and_pings_are_answered() {
    let (_stage, mut socket) = attached(Contract::Executor).await;
    for (seq, id) in [(0, 1), (0, 2), (77, 3), (3, 4)] {
        let request = json!({"id": id, "method": "no/such"}).to_string();
        socket.send(data("S", seq, format!(" {request}\n").as_bytes())).await;
        let (frame, answer) = answer(&mut socket).await;
        assert_eq!((frame.seq, &answer["id"]), (id - 1, &json!(id)));
    }
    socket.message(Message::Ping(b"p".as_slice().into())).await;
    loop {
        match socket.next_of_any_kind().await {
            Some(Message::Pong(payload)) if payload == b"p".as_slice() => break,
            Some(Message::Ping(_)) => {}
            other => panic!("no pong: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_first_message_has_to_be_initialize() {
    let (_stage, mut socket) = attached(Contract::Executor).await;
    socket.send(data("S", 0, br#"{"id":1,"method":"process/read","params":{"processId":"p"}}"#)).await;
    let (_, answer) = answer(&mut socket).await;
    assert_eq!(answer["error"]["code"], -32600);
    assert_eq!(answer["error"]["message"], "client must call initialize before using exec methods");
}

#[tokio::test]
async fn a_stream_dies_silently_of_a_fault_and_its_id_lives_again_after_one_lost_frame() {
    let (_stage, mut socket) = attached(Contract::Executor).await;
    for fault in [r#"{"id":9,"result":{}}"#, r#"{"method":"no-such-notification"}"#] {
        let id = fault;
        socket.send(data(id, 0, &initialize(1))).await;
        while answer(&mut socket).await.0.stream != id {}
        socket.send(data(id, 1, fault.as_bytes())).await;
        // Nothing tells that the stream has died, so initialize is tried until it is answered.
        let mut tries = 0;
        let frame = 'answered: loop {
            tries += 1;
            socket.send(data(id, 2, &initialize(100 + tries))).await;
            socket.send(data("other", 0, format!(r#"{{"id":{tries},"method":"x"}}"#).as_bytes())).await;
            loop {
                let (frame, value) = answer(&mut socket).await;
                if frame.stream == id {
                    assert!(value["result"]["sessionId"].is_string(), "{value}");
                    break 'answered frame;
                }
                if value["id"] == tries {
                    break;
                }
            }
        };
        assert_eq!(frame.seq, 0, "a fresh connection counts from 0");
        assert!(tries >= 2, "one frame at least is lost");
    }
}

#[tokio::test]
async fn a_program_runs_over_a_stream_from_start_to_end() {
    for contract in [Contract::Executor, Contract::Environment] {
        let (_stage, socket) = attached(contract).await;
        let harnesses = PlainHarnesses::on(socket);
        let mut client = harnesses.client("S1");
        client.handshake().await;
        let ended = client.run("p", "echo out; echo err >&2; exit 3").await;
        assert_eq!(
            (ended.stdout().as_str(), ended.text("stderr").as_str(), ended.code()),
            ("out\n", "err\n", 3)
        );
        client.shell_with("cat", "cat", json!({"pipeStdin": true})).await;
        client.write("cat", "hello").await;
        client.output_until("cat", "hello").await;
    }
}

#[tokio::test]
async fn many_streams_live_side_by_side_and_are_each_their_own() {
    let (_stage, socket) = attached(Contract::Environment).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = harnesses.client(&format!("stream {n}"));
        client.handshake().await;
        client.shell("same-id", &format!("echo I am {n}")).await;
        clients.push(client);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.finish("same-id").await.stdout(), format!("I am {n}\n"));
    }
}

#[tokio::test]
async fn a_large_answer_goes_out_in_one_frame() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    let content: Vec<u8> = (0..4_000_000u32).map(|n| n as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let (_stage, socket) = attached(Contract::Executor).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut client = harnesses.client("S");
    client.handshake().await;
    let read = client.ok("fs/readFile", json!({"path": path.to_str().unwrap()})).await;
    assert!(bytes_of(&read["dataBase64"]) == content);
    // One that no receiver would take is an error that says what to do, and the stream lives on.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(20 << 20).unwrap();
    let refused = client.call("fs/readFile", json!({"path": path.to_str().unwrap()})).await.unwrap_err();
    assert!(refused.0 == -32603 && refused.1.contains("in parts"), "{refused:?}");
    assert_eq!(client.run("p", "echo alive").await.stdout(), "alive\n");
}

#[tokio::test]
async fn a_message_over_16_mib_ends_the_websocket_and_one_below_passes() {
    let (stage, mut socket) = attached(Contract::Executor).await;
    let padded = |size: usize| {
        let mut payload = br#"{"id":1,"method":"no/such","params":""#.to_vec();
        payload.resize(size - 2, b'x');
        payload.extend(b"\"}");
        data("S", 0, &payload)
    };
    socket.send(padded(16_777_133 - 20)).await;
    assert_eq!(answer(&mut socket).await.1["error"]["code"], -32601);
    let _ = socket.into_inner();
    let mut again = stage.rendezvous.executor().await;
    let mut socket = again.into_inner();
    use futures_util::SinkExt;
    // It may hang up while this is still being sent.
    let _ = socket.send(Message::binary(padded(16_777_243))).await;
    again = stage.rendezvous.executor().await;
    again.send(data("S", 0, &initialize(1))).await;
    assert!(answer(&mut again).await.1["result"].is_object());
}

#[tokio::test]
async fn a_reset_frees_the_session_and_the_id_at_once() {
    let (_stage, socket) = attached(Contract::Executor).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut first = harnesses.client("S");
    first.handshake().await;
    let session = first.session_id.clone();
    first.shell_with("p", "read line; echo got $line", json!({"pipeStdin": true})).await;
    harnesses.forget("S");
    harnesses.frame(reset("S", "harness left"));
    // The same id again is a fresh connection; the session waits for it.
    let mut second = harnesses.client("S");
    second.resume(&session).await.expect("the session is detached");
    second.write("p", "me\n").await;
    assert_eq!(second.finish("p").await.stdout(), "got me\n");
}

#[tokio::test]
async fn a_session_that_is_attached_elsewhere_is_refused() {
    let (_stage, socket) = attached(Contract::Executor).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut first = harnesses.client("S1");
    first.handshake().await;
    let session = first.session_id.clone();
    let mut second = harnesses.client("S2");
    let (code, _) = second.resume(&session).await.expect_err("it is attached");
    assert_eq!(code, -32010);
}

#[tokio::test]
async fn a_harness_that_vanished_without_a_reset_gives_way_to_one_that_resumes() {
    let (_stage, socket) = attached(Contract::Executor).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut first = harnesses.client("S1");
    first.handshake().await;
    let session = first.session_id.clone();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut again = harnesses.client(&format!("again {tries}"));
        match again.resume(&session).await {
            Ok(_) => break,
            Err((code, text)) => assert_eq!(code, -32010, "{text}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(tries > 1, "it is refused at first");
}

#[tokio::test]
async fn programs_survive_a_cut_and_nothing_they_print_is_lost_or_doubled() {
    let (stage, socket) = attached(Contract::Executor).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut client = harnesses.client("S");
    client.handshake().await;
    let session = client.session_id.clone();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; read go; echo done";
    client.shell_with("p", script, json!({"pipeStdin": true})).await;
    client.output_until("p", "line 100\n").await;
    drop(client);
    harnesses.cut();
    let harnesses = PlainHarnesses::on(stage.rendezvous.executor().await);
    let mut client = harnesses.client("another");
    client.resume(&session).await.expect("the session waits");
    client.write("p", "\n").await;
    let mut text = String::new();
    let mut after = 0;
    loop {
        let read = client.read("p", after, 1000).await;
        for chunk in read["chunks"].as_array().expect("chunks") {
            let seq = chunk["seq"].as_u64().expect("a number");
            assert!(seq > after);
            after = seq;
            text.push_str(std::str::from_utf8(&bytes_of(&chunk["chunk"])).expect("text"));
        }
        if read["closed"] == true {
            break;
        }
    }
    let expected: String = (0..3000).map(|n| format!("line {n}\n")).collect();
    assert!(text == format!("{expected}done\n"), "{} bytes", text.len());
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_others() {
    let (_stage, socket) = attached(Contract::Executor).await;
    let harnesses = PlainHarnesses::on(socket);
    let mut greedy = harnesses.client("greedy");
    greedy.handshake().await;
    greedy.shell("flood", "head -c 50000000 /dev/zero").await;
    let mut quick = harnesses.client("quick");
    quick.handshake().await;
    assert_eq!(quick.run("p", "echo quick").await.stdout(), "quick\n");
    let ended = greedy.finish("flood").await;
    assert_eq!(ended.bytes("stdout").len(), 50_000_000);
}

/// What an executor holds while a harness floods a connection that is not read, and once the harness has gone.
#[tokio::test]
async fn a_flood_of_small_messages_in_large_frames_is_bounded_by_what_it_holds() {
    let (registry, rendezvous) = Contract::Executor.stage().await;
    let executor = Contract::Executor.executor(&registry.url).start();
    let mut socket = rendezvous.executor().await;
    let request = |id: u32, method: &str, params: Value| {
        json!({"id": id, "method": method, "params": params}).to_string().into_bytes()
    };
    for round in 0..3 {
        let stream = format!("{round}{}", "x".repeat(8000));
        let mut messages = vec![
            initialize(1),
            br#"{"method":"initialized"}"#.to_vec(),
            request(
                2,
                "process/start",
                json!({
                    "processId": "p", "argv": ["sleep", "1000"], "cwd": "/tmp", "env": {}, "tty": false, "arg0": null,
                }),
            ),
        ];
        let wait = |id: u32| {
            request(id, "process/read", json!({"processId": "p", "afterSeq": 0, "waitMs": 3_600_000}))
        };
        messages.extend((3..1103).map(wait));
        messages.extend((0..20_000).map(|_| br#"{"method":"x"}"#.to_vec()));
        for (seq, message) in messages.iter().enumerate() {
            socket.send(data(&stream, seq as u32, message)).await;
        }
        // Another stream's answer tells that all of that has arrived.
        let probe = format!("probe {round}");
        socket.send(data(&probe, 0, &initialize(1))).await;
        while answer(&mut socket).await.0.stream != probe {}
        let peak = codex_e2e::machine::peak_memory(executor.pid());
        assert!(peak < 100 << 20, "{peak} bytes were resident in round {round}");
        socket.send(reset(&stream, "gone")).await;
        socket.send(reset(&probe, "gone")).await;
    }
}
