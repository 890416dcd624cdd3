//! How programs end, and how long that is remembered (8.6).

use codex_e2e::{Server, bytes_of};
use serde_json::json;

#[tokio::test]
async fn exit_codes_are_those_of_the_newer_dialect() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let cases = [
        ("exit 0", 0),
        ("exit 255", 255),
        ("kill -1 $$", 129),
        ("kill -9 $$", 137),
        ("kill -11 $$", 139),
        ("kill -15 $$", 143),
    ];
    for (index, (command, code)) in cases.into_iter().enumerate() {
        assert_eq!(client.run(&format!("pipe{index}"), command).await.code(), code, "{command}");
    }
    for (id, command, code) in [("t1", "exit 7", 7), ("t2", "kill -9 $$", 1), ("t3", "kill -15 $$", 1)] {
        client.shell_with(id, command, json!({"tty": true})).await;
        assert_eq!(client.finish(id).await.code(), code, "{command} on a terminal");
    }
}

#[tokio::test]
async fn exited_is_not_delayed_by_a_background_child_that_holds_the_pipe() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    let command =
        format!("(while [ ! -e {} ]; do sleep 0.02; done; echo late) & echo early; exit 6", gate.display());
    client.shell("p", &command).await;
    let exited = client.next_notification("process/exited").await;
    assert_eq!(exited["exitCode"], 6);
    let read = client.read("p", exited["seq"].as_u64().unwrap(), 0).await;
    assert_eq!((&read["exited"], &read["closed"]), (&json!(true), &json!(false)));
    std::fs::write(&gate, "").unwrap();
    let late = client.until(|m| m["method"] == "process/output" && m["params"]["seq"] == 3).await;
    assert_eq!(bytes_of(&late["params"]["chunk"]), b"late\n");
    assert_eq!(client.next_notification("process/closed").await["seq"], 4);
}

#[tokio::test]
async fn an_ended_process_is_forgotten_after_its_time() {
    let server = Server::builder().limit("ended_process_time", 100).start().await;
    let mut client = server.client().await;
    client.run("p", "echo x").await;
    loop {
        match client.call("process/read", json!({"processId": "p"})).await {
            Ok(read) => assert_eq!(read["closed"], true),
            Err((code, _)) => {
                assert_eq!(code, -32600);
                break;
            }
        }
    }
    assert_eq!(client.write("p", "x").await, "unknownProcess");
    assert_eq!(client.ok("process/terminate", json!({"processId": "p"})).await["running"], false);
    assert_eq!(client.run("p", "exit 5").await.code(), 5, "the id is free again");
}
