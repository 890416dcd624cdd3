//! Sessions that outlive their connection (section 5.3).

use codex_e2e::machine::{alive, eventually, pid_in};
use codex_e2e::{Server, bytes_of};
use serde_json::{Value, json};

use crate::handshake::resume_soon;

#[tokio::test]
async fn a_cut_connection_loses_no_byte() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    // More than the log holds: the program has to wait for the resume.
    client
        .shell_with(
            "p",
            "read x; seq 1 400000; touch done",
            json!({"pipeStdin": true, "cwd": directory.path()}),
        )
        .await;
    client.write("p", "\n").await;
    let mut collected = Vec::new();
    let mut after = 0;
    for _ in 0..5 {
        let output = client.next_notification("process/output").await;
        after = output["seq"].as_u64().unwrap();
        collected.extend(bytes_of(&output["chunk"]));
    }
    let session = client.session_id.clone();
    drop(client);
    let mut heir = server.connect().await;
    resume_soon(&mut heir, &session).await;
    assert_eq!(heir.session_id, session);
    // As the released clients recover: read what was missed once, then go on with what is pushed.
    let missed = heir.read("p", after, 0).await;
    assert_eq!(missed["lostBytes"], 0);
    let mut pieces = std::collections::BTreeMap::new();
    for chunk in missed["chunks"].as_array().unwrap() {
        pieces.insert(chunk["seq"].as_u64().unwrap(), bytes_of(&chunk["chunk"]));
    }
    let last = loop {
        let event = heir.until(|m| m["params"]["processId"] == "p").await;
        let seq = event["params"]["seq"].as_u64().unwrap();
        match event["method"].as_str().unwrap() {
            "process/output" => drop(pieces.insert(seq, bytes_of(&event["params"]["chunk"]))),
            "process/exited" => drop(pieces.insert(seq, Vec::new())),
            _ => break seq,
        }
    };
    let numbers: Vec<u64> = pieces.keys().copied().collect();
    assert_eq!(numbers, (after + 1..last).collect::<Vec<u64>>(), "no number is missing");
    collected.extend(pieces.into_values().flatten());
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(collected == expected.as_bytes(), "{} of {} bytes", collected.len(), expected.len());
}

#[tokio::test]
async fn notifications_flow_to_the_new_connection_even_before_initialized() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    let session = client.session_id.clone();
    drop(client);
    let mut heir = server.connect().await;
    let resume = json!({"clientName": "e2e", "resumeSessionId": session});
    while let Err((code, _)) = heir.call("initialize", resume.clone()).await {
        assert_eq!(code, -32010);
    }
    let mut third = server.connect().await;
    assert_eq!(third.resume(&session).await.unwrap_err().0, -32010);
    assert_eq!(heir.refused("process/write", json!({"processId": "cat", "chunk": ""})).await, -32600);
    heir.notify("initialized", json!({})).await;
    heir.write("cat", "back again\n").await;
    heir.output_until("cat", "back again\n").await;
}

#[tokio::test]
async fn nothing_missed_is_pushed_again() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "echo before; read x; echo after", json!({"pipeStdin": true})).await;
    client.output_until("p", "before").await;
    let session = client.session_id.clone();
    drop(client);
    let mut heir = server.connect().await;
    resume_soon(&mut heir, &session).await;
    heir.write("p", "\n").await;
    let ended = heir.finish_after("p", 1).await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("after\n", 0));
}

#[tokio::test]
async fn a_waiting_read_of_a_dead_connection_is_given_up_at_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start("p", ["sleep", "1000"]).await;
    client.send("process/read", json!({"processId": "p", "waitMs": 1_000_000})).await;
    let session = client.session_id.clone();
    drop(client);
    let mut heir = server.connect().await;
    resume_soon(&mut heir, &session).await;
    assert_eq!(heir.ok("process/terminate", json!({"processId": "p"})).await["running"], true);
}

#[tokio::test]
async fn handles_die_with_their_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ok("fs/open", json!({"handleId": "h", "path": "/etc/passwd"})).await;
    let session = client.session_id.clone();
    drop(client);
    let mut heir = server.connect().await;
    resume_soon(&mut heir, &session).await;
    assert_eq!(heir.refused("fs/readBlock", json!({"handleId": "h", "offset": 0, "len": 1})).await, -32004);
}

#[tokio::test]
async fn a_write_id_is_remembered_across_a_resume() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    let write = json!({"processId": "cat", "chunk": codex_e2e::base64("once\n"), "writeId": "1"});
    client.ok("process/write", write.clone()).await;
    client.output_until("cat", "once\n").await;
    let session = client.session_id.clone();
    drop(client);
    let mut heir = server.connect().await;
    resume_soon(&mut heir, &session).await;
    assert_eq!(heir.ok("process/write", write).await["status"], "accepted");
    heir.write("cat", "end\n").await;
    assert_eq!(heir.output_until("cat", "end\n").await, "end\n");
}

#[tokio::test]
async fn a_session_nobody_resumes_ends_with_its_whole_tree() {
    let server = Server::builder().limit("detached_time", 200).start().await;
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let mut client = server.client().await;
    client
        .shell("p", &format!("setsid sh -c 'echo $$ > {at}/own; sleep 1000' & echo $$ > {at}/pid; wait"))
        .await;
    let (pid, own) =
        (pid_in(&directory.path().join("pid")).await, pid_in(&directory.path().join("own")).await);
    let session = client.session_id.clone();
    drop(client);
    for pid in [pid, own] {
        eventually("the program ends with its session", || !alive(pid)).await;
    }
    let mut late = server.connect().await;
    assert_eq!(late.resume(&session).await.unwrap_err().0, -32600);
    late.handshake().await;
}

#[tokio::test]
async fn a_connection_that_went_silent_is_let_go_for_a_newcomer() {
    let server = Server::builder().limit("challenge_time", 200).start().await;
    let mut client = server.client().await;
    client.start("p", ["sleep", "1000"]).await;
    let session = client.session_id.clone();
    // Half open: the connection stands, but nobody reads it, so no pong comes.
    let silent = client;
    let mut heir = server.connect().await;
    assert_eq!(heir.resume(&session).await.unwrap_err().0, -32010);
    resume_soon(&mut heir, &session).await;
    assert_eq!(heir.ok("process/terminate", json!({"processId": "p"})).await["running"], true);
    drop(silent);
}

#[tokio::test]
async fn sessions_are_strangers_to_each_other() {
    let server = Server::start().await;
    let mut one = server.client().await;
    let mut two = server.client().await;
    one.start("p", ["sleep", "1000"]).await;
    assert_eq!(two.refused("process/read", json!({"processId": "p"})).await, -32600);
    assert_eq!(two.ok("process/terminate", json!({"processId": "p"})).await["running"], false);
    assert_eq!(two.ok("process/list", Value::Null).await["processes"], json!([]));
    assert_eq!(one.ok("process/terminate", json!({"processId": "p"})).await["running"], true);
}
