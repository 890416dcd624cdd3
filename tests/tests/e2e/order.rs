//! Order of work: what is begun in order, what runs beside (ARCHITECTURE.md, invariant 5).

use codex_e2e::client::{Refusal, start_params};
use codex_e2e::{Server, TestClient, base64, bytes_of};
use serde_json::{Value, json};

#[tokio::test]
async fn a_thousand_pipelined_writes_arrive_in_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .send("process/start", start_params("cat", ["head", "-n", "1000"], json!({"pipeStdin": true})))
        .await;
    let mut ids = Vec::new();
    for n in 0..1000 {
        let params = json!({"processId": "cat", "chunk": base64(format!("{n}\n")), "writeId": n.to_string()});
        ids.push(client.send("process/write", params).await);
    }
    let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(client.finish("cat").await.stdout(), expected);
    for id in ids {
        assert_eq!(client.answer(id).await.unwrap()["status"], "accepted");
    }
}

#[tokio::test]
async fn a_long_poll_delays_nothing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("p", ["cat"], json!({"pipeStdin": true})).await;
    client.start("quiet", ["sleep", "1000"]).await;
    let poll = client.send("process/read", json!({"processId": "quiet", "waitMs": 2000})).await;
    let others = [
        ("process/write", json!({"processId": "p", "chunk": "eA=="})),
        ("process/read", json!({"processId": "none"})),
        ("process/signal", json!({"processId": "none", "signal": "interrupt"})),
        ("fs/getMetadata", json!({"path": "/"})),
        ("environment/status", json!({})),
        ("process/start", start_params("more", ["true"], json!({}))),
        ("process/list", json!({})),
        ("process/terminate", json!({"processId": "p"})),
    ];
    let mut awaited = Vec::new();
    for (method, params) in others {
        awaited.push(client.send(method, params).await);
    }
    let mut order = Vec::new();
    while order.len() <= awaited.len() {
        let message = client.next().await.unwrap();
        if message.get("method").is_none() {
            order.push(message["id"].as_i64().unwrap());
        }
    }
    assert_eq!(order.last(), Some(&poll), "the poll ({poll}) answers last: {order:?}");
}

#[tokio::test]
async fn requests_for_one_process_answer_in_the_order_they_came() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut groups = Vec::new();
    for n in 0..50 {
        let id = format!("p{n}");
        groups.push([
            client.send("process/start", start_params(&id, ["cat"], json!({"pipeStdin": true}))).await,
            client.send("process/write", json!({"processId": id, "chunk": "eA=="})).await,
            client.send("process/signal", json!({"processId": id, "signal": "continue"})).await,
            client.send("process/terminate", json!({"processId": id})).await,
        ]);
    }
    let mut order = Vec::new();
    while order.len() < 200 {
        let message = client.next().await.expect("the connection stays");
        if message.get("method").is_none() {
            assert!(message.get("error").is_none(), "{message}");
            order.push(message["id"].as_i64().unwrap());
        }
    }
    for group in groups {
        let answered: Vec<i64> = order.iter().copied().filter(|id| group.contains(id)).collect();
        assert_eq!(answered, group, "start, write, signal, terminate");
    }
}

#[tokio::test]
async fn the_cap_on_slow_requests_lets_quick_ones_and_waits_through() {
    let server = Server::builder().args(["--concurrent-requests", "1"]).start().await;
    let mut client = server.client().await;
    client.start_with("p", ["cat"], json!({"pipeStdin": true})).await;
    let poll = client.send("process/read", json!({"processId": "p", "waitMs": 60_000})).await;
    assert_eq!(client.ok("fs/getMetadata", json!({"path": "/"})).await["isDirectory"], true);
    let write = client.send("process/write", json!({"processId": "p", "chunk": base64("go\n")})).await;
    assert_eq!(client.answer(write).await.unwrap()["status"], "accepted");
    assert_eq!(bytes_of(&client.answer(poll).await.unwrap()["chunks"][0]["chunk"]), b"go\n");
}

#[tokio::test]
async fn notifications_follow_the_answer_of_their_start() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for n in 0..50 {
        let request = client.send("process/start", start_params(&format!("p{n}"), ["true"], json!({}))).await;
        let first = client.next().await.unwrap();
        assert_eq!(first["id"], request, "{first}");
        client.finish(&format!("p{n}")).await;
    }
}

/// Requests that are sent without waiting for answers, and the answers in the order of the requests.
async fn pipelined(client: &mut TestClient, requests: Vec<(&str, Value)>) -> Vec<Result<Value, Refusal>> {
    let mut ids = Vec::new();
    for (method, params) in requests {
        ids.push(client.send(method, params).await);
    }
    let mut answers = Vec::new();
    for id in ids {
        answers.push(client.answer(id).await);
    }
    answers
}

#[tokio::test]
async fn file_requests_that_meet_on_a_path_take_effect_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let server = Server::start().await;
    let mut client = server.client().await;
    let write = |text: &str| ("fs/writeFile", json!({"path": at("d/e/f"), "dataBase64": base64(text)}));
    let read = || ("fs/readFile", json!({"path": at("d/e/f")}));
    for round in 0..50 {
        let (first, second) = (format!("first {round}"), format!("second {round}"));
        let requests = vec![
            ("fs/createDirectory", json!({"path": at("d/e"), "recursive": true})),
            write(&first),
            read(),
            (
                "fs/copy",
                json!({"sourcePath": at("d/e/f"), "destinationPath": at("copy"), "recursive": false}),
            ),
            write(&second),
            read(),
            ("fs/readFile", json!({"path": at("copy")})),
            ("fs/remove", json!({"path": at("d"), "recursive": true, "force": false})),
            ("fs/getMetadata", json!({"path": at("d/e/f")})),
        ];
        let answers = pipelined(&mut client, requests).await;
        let text = |index: usize| bytes_of(&answers[index].as_ref().unwrap()["dataBase64"]);
        assert_eq!((text(2), text(5), text(6)), (first.clone().into(), second.into(), first.into()));
        assert!(answers[7].is_ok(), "{answers:?}");
        assert_eq!(answers[8].as_ref().unwrap_err().0, -32004, "{answers:?}");
    }
}

#[tokio::test]
async fn a_file_that_was_streamed_is_read_whole_by_what_follows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("streamed").to_str().unwrap().to_owned();
    let server = Server::start().await;
    let mut client = server.client().await;
    let block = |n: usize| json!({"handleId": "h", "offset": n * 4, "chunk": base64("abcd")});
    for _ in 0..20 {
        let mut requests = vec![("fs/open", json!({"handleId": "h", "path": path, "mode": "replace"}))];
        requests.extend((0..8).map(|n| ("fs/writeBlock", block(n))));
        requests.push(("fs/close", json!({"handleId": "h"})));
        requests.push(("fs/readFile", json!({"path": path})));
        let answers = pipelined(&mut client, requests).await;
        let whole = bytes_of(&answers.last().unwrap().as_ref().unwrap()["dataBase64"]);
        assert_eq!(whole, b"abcd".repeat(8));
    }
}

#[tokio::test]
async fn a_program_finds_the_files_that_were_written_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script").to_str().unwrap().to_owned();
    let server = Server::start().await;
    let mut client = server.client().await;
    for round in 0..20 {
        let text = format!("{}echo {round}\n", "# A long way to go.\n".repeat(50_000));
        let id = format!("p{round}");
        let start = start_params(&id, ["sh", "./script"], json!({"cwd": directory.path()}));
        client.send("fs/writeFile", json!({"path": script, "dataBase64": base64(text)})).await;
        client.send("process/start", start).await;
        assert_eq!(client.finish(&id).await.stdout(), format!("{round}\n"));
    }
}

#[tokio::test]
async fn what_follows_a_start_at_once_finds_it_done() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for round in 0..30 {
        let id = format!("p{round}");
        let missing = start_params(&id, ["/no/such/program"], json!({}));
        let start = start_params(&id, ["true"], json!({"tty": round % 2 == 0}));
        let read = json!({"processId": id});
        let requests = vec![("process/start", missing), ("process/start", start), ("process/read", read)];
        let answers = pipelined(&mut client, requests).await;
        assert!(answers[0].is_err() && answers[1].is_ok(), "the id is free again: {answers:?}");
        let start = start_params(&format!("q{round}"), ["true"], json!({"tty": true}));
        let read = json!({"processId": format!("q{round}")});
        let answers = pipelined(&mut client, vec![("process/start", start), ("process/read", read)]).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}

/// With one slot, a block that took it while its file is not open yet would wait for ever.
#[tokio::test]
async fn blocks_never_keep_the_slot_from_the_open_before_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f").to_str().unwrap().to_owned();
    let server = Server::builder().args(["--concurrent-requests", "1"]).start().await;
    let mut client = server.client().await;
    for _ in 0..20 {
        let mut requests = vec![
            ("fs/writeFile", json!({"path": path, "dataBase64": base64("abcd")})),
            ("fs/writeFile", json!({"path": directory.path().join("other"), "dataBase64": ""})),
            ("fs/open", json!({"handleId": "h", "path": path})),
        ];
        requests.extend((0..8).map(|_| ("fs/readBlock", json!({"handleId": "h", "offset": 0, "len": 4}))));
        requests.push(("fs/close", json!({"handleId": "h"})));
        let answers = pipelined(&mut client, requests).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(answers[3..11].iter().all(|block| bytes_of(&block.as_ref().unwrap()["chunk"]) == b"abcd"));
    }
}
