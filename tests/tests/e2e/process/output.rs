//! What programs print: numbered, in order, retained, read again (8.3, 8.6).

use codex_e2e::{Server, bytes_of};
use serde_json::{Value, json};

#[tokio::test]
async fn streams_stay_apart_and_events_are_numbered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "read a; echo out; echo err >&2; exit 3", json!({"pipeStdin": true})).await;
    assert_eq!(client.write("p", "go\n").await, "accepted");
    let ended = client.finish("p").await;
    assert_eq!((ended.text("stdout").as_str(), ended.text("stderr").as_str()), ("out\n", "err\n"));
    assert_eq!(ended.code(), 3);
    assert_eq!(ended.exited["sandboxDenied"], false);
    assert_eq!(ended.events.last().unwrap().1, "process/closed");
}

#[tokio::test]
async fn every_byte_of_a_long_output_arrives_in_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ended = client.run("p", "seq 1 400000").await;
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(ended.bytes("stdout") == expected.as_bytes(), "{} bytes", ended.bytes("stdout").len());
}

#[tokio::test]
async fn reads_return_what_is_retained_after_a_number() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .shell_with("p", "echo one; read x; echo two >&2; read x; exit 3", json!({"pipeStdin": true}))
        .await;
    client.output_until("p", "one\n").await;
    client.write("p", "\n").await;
    client.output_until("p", "two\n").await;
    let live = client.read("p", 0, 0).await;
    assert_eq!(
        (&live["exited"], &live["exitCode"], &live["closed"]),
        (&json!(false), &Value::Null, &json!(false))
    );
    assert_eq!(live["nextSeq"], 3);
    client.write("p", "\n").await;
    client.finish_after("p", 2).await;
    // (afterSeq, maxBytes) → (numbers of the chunks, nextSeq)
    let cases = [
        (json!(null), json!(null), vec![1, 2], 5),
        (json!(0), json!(null), vec![1, 2], 5),
        (json!(1), json!(null), vec![2], 5),
        (json!(2), json!(null), vec![], 5),
        (json!(99), json!(null), vec![], 5),
        (json!(0), json!(0), vec![1], 2),
        (json!(0), json!(1), vec![1], 2),
        (json!(0), json!(7), vec![1], 2),
        (json!(0), json!(8), vec![1, 2], 3),
        (json!(2), json!(8), vec![], 5),
    ];
    for (after, max, numbers, next) in cases {
        let params = json!({"processId": "p", "afterSeq": after, "maxBytes": max, "waitMs": 60_000});
        let read = client.ok("process/read", params.clone()).await;
        let seqs: Vec<u64> =
            read["chunks"].as_array().unwrap().iter().map(|c| c["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, numbers, "{params} → {read}");
        assert_eq!(read["nextSeq"], next, "{params} → {read}");
        assert_eq!(
            (&read["exited"], &read["exitCode"], &read["closed"]),
            (&json!(true), &json!(3), &json!(true))
        );
        assert_eq!((&read["failure"], &read["sandboxDenied"]), (&Value::Null, &json!(false)));
    }
    for params in [
        json!({"processId": "p", "afterSeq": -1}),
        json!({"processId": "p", "maxBytes": 1.5}),
        json!({"processId": "p", "waitMs": "1"}),
        json!({"processId": null}),
        json!({}),
    ] {
        assert_eq!(client.refused("process/read", params.clone()).await, -32602, "{params}");
    }
    assert_eq!(client.refused("process/read", json!({"processId": "none"})).await, -32600);
}

#[tokio::test]
async fn a_waiting_read_wakes_for_output_exit_and_close() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "read x; echo a; read x; exit 4", json!({"pipeStdin": true})).await;
    let waiting =
        client.send("process/read", json!({"processId": "p", "afterSeq": 0, "waitMs": 60_000})).await;
    client.write("p", "\n").await;
    let read = client.answer(waiting).await.unwrap();
    assert_eq!(bytes_of(&read["chunks"][0]["chunk"]), b"a\n");
    let waiting =
        client.send("process/read", json!({"processId": "p", "afterSeq": 1, "waitMs": 60_000})).await;
    client.write("p", "\n").await;
    let read = client.answer(waiting).await.unwrap();
    assert_eq!((&read["exited"], &read["exitCode"]), (&json!(true), &json!(4)));
    let read = client.read("p", 2, 60_000).await;
    assert_eq!((&read["closed"], &read["nextSeq"]), (&json!(true), &json!(4)));
}

#[tokio::test]
async fn a_flood_of_small_pieces_ends_like_any_other_output() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    let lines = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let late = format!("(while [ ! -e {} ]; do sleep 0.02; done; echo late) &", gate.display());
    client.shell("p", &format!("{lines}; {late} exit 6")).await;
    let mut text = Vec::new();
    let exited = loop {
        let message = client.until(|message| message["method"].is_string()).await;
        match message["method"].as_str() {
            Some("process/output") => text.extend(bytes_of(&message["params"]["chunk"])),
            Some("process/exited") => break message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exited["params"]["exitCode"], 6);
    std::fs::write(&gate, "").unwrap();
    loop {
        let message = client.until(|message| message["method"].is_string()).await;
        match message["method"].as_str() {
            Some("process/output") => text.extend(bytes_of(&message["params"]["chunk"])),
            Some("process/closed") => break,
            other => panic!("{other:?}"),
        }
    }
    let expected: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(String::from_utf8(text).unwrap(), expected + "late\n");
}

#[tokio::test]
async fn the_last_mebibyte_is_retained_and_loss_is_said() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ended = client.run("p", "seq 1 600000; seq 1 2000 >&2").await;
    let all = ended.bytes("stdout");
    let read = client.read("p", 0, 0).await;
    let chunks = read["chunks"].as_array().unwrap();
    let kept: Vec<u8> =
        chunks.iter().filter(|c| c["stream"] == "stdout").flat_map(|c| bytes_of(&c["chunk"])).collect();
    let kept_err: usize =
        chunks.iter().filter(|c| c["stream"] == "stderr").map(|c| bytes_of(&c["chunk"]).len()).sum();
    let sum = kept.len() + kept_err;
    assert!(sum <= 1 << 20 && sum > (1 << 20) - (128 << 10), "{sum} bytes are retained");
    assert!(all.ends_with(&kept), "the oldest goes first");
    assert_eq!(read["lostBytes"], (all.len() + ended.bytes("stderr").len() - sum) as u64);
    assert_eq!(read["totals"]["stdout"], all.len() as u64);
    assert_eq!(read["totals"]["stderr"], ended.bytes("stderr").len() as u64);
    assert_eq!(read["nextSeq"].as_u64().unwrap(), ended.events.len() as u64 + 1);
    let seqs: Vec<u64> = chunks.iter().map(|c| c["seq"].as_u64().unwrap()).collect();
    let rest = client.read("p", seqs[0] - 1, 0).await;
    assert_eq!(rest["lostBytes"], 0, "nothing is missing after the first kept chunk");
}

#[tokio::test]
async fn what_a_program_wrote_comes_before_its_end() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for n in 0..60 {
        let id = format!("p{n}");
        client.shell_with(&id, "sleep 0.01; echo last words", json!({"tty": n % 2 == 0})).await;
        let mut kinds = Vec::new();
        client
            .until(|message| {
                let method = message["method"].as_str().unwrap_or_default().to_owned();
                let ours = message["params"]["processId"] == *id;
                let closed = ours && method == "process/closed";
                kinds.extend(ours.then_some(method));
                closed
            })
            .await;
        let exit = kinds.iter().position(|kind| kind == "process/exited").expect("it ends");
        let output = kinds.iter().rposition(|kind| kind == "process/output").expect("it prints");
        assert!(output < exit, "{id}: {kinds:?}");
    }
}
