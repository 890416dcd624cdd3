//! The stdio transport (section 3).

use codex_e2e::Server;
use codex_e2e::machine::{alive, eventually, pid_in};
use serde_json::json;

#[tokio::test]
async fn lines_may_be_blank_end_with_crlf_and_come_in_pieces() {
    let (mut server, mut client) = Server::builder().stdio().await;
    client.send_bytes(b"\n   \n\r\n{\"id\":1,\"method\":\"initialize\",").await;
    client.send_bytes(b"\"params\":{\"clientName\":\"x\"}}\r\n{\"method\":\"initialized\"}\n").await;
    client
        .send_bytes(b"{\"id\":2,\"method\":\"environment/status\"}\n{\"id\":3,\"method\":\"no/such\"}\n")
        .await;
    assert!(client.next().await.unwrap()["result"]["sessionId"].is_string());
    assert_eq!(client.next().await.unwrap()["result"]["status"], "ready");
    assert_eq!(client.next().await.unwrap()["error"]["code"], -32601);
    client.send_raw("not json").await;
    assert_eq!(client.next().await.unwrap()["id"], -1);
    client.end_input();
    assert_eq!(client.expect_closed().await.len(), 0);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_end_of_stdin_ends_programs_and_server() {
    for listen in ["stdio", "stdio://"] {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let (mut server, mut client) = Server::builder().listen(listen).stdio().await;
        client.handshake().await;
        client.shell("p", &format!("echo $$ > {}; exec sleep 1000", pid_file.display())).await;
        let pid = pid_in(&pid_file).await;
        client.end_input();
        client.expect_closed().await;
        assert_eq!(server.ended().await.code(), Some(0));
        eventually("the program ends too", || !alive(pid)).await;
    }
}

#[tokio::test]
async fn programs_run_over_a_pipe_as_over_a_socket() {
    let (_server, mut client) = Server::builder().stdio().await;
    client.handshake().await;
    let ended = client.run("p", "echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (ended.text("stdout").as_str(), ended.text("stderr").as_str(), ended.code()),
        ("out\n", "err\n", 3)
    );
    client.shell("big", "head -c 3000000 /dev/zero").await;
    assert_eq!(client.finish("big").await.bytes("stdout").len(), 3_000_000);
}

#[tokio::test]
async fn protocol_nonsense_ends_a_stdio_server_with_exit_0() {
    let (mut server, mut client) = Server::builder().stdio().await;
    client.handshake().await;
    client.notify("no/such", json!({})).await;
    client.expect_closed().await;
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_line_beyond_the_bound_ends_the_server() {
    let (mut server, mut client) = Server::builder().limit("line_bytes", 10_000).stdio().await;
    client.handshake().await;
    let line = |bytes: usize| {
        let empty = json!({"id": 9, "method": "no/such", "params": ""}).to_string();
        json!({"id": 9, "method": "no/such", "params": "x".repeat(bytes - empty.len())}).to_string()
    };
    client.send_raw(&line(10_000)).await;
    assert_eq!(client.next().await.unwrap()["error"]["code"], -32601);
    client.try_send_raw(&line(10_001)).await;
    client.expect_closed().await;
    assert_eq!(server.ended().await.code(), Some(0));
}

#[test]
fn answers_that_can_not_be_written_are_a_failure_and_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let request = directory.path().join("request");
    std::fs::write(&request, "{\"id\":1,\"method\":\"initialize\",\"params\":{\"clientName\":\"x\"}}\n")
        .unwrap();
    let request = std::fs::File::open(&request).unwrap();
    codex_e2e::binary::fails_on_a_full_disk(&["exec-server", "--listen", "stdio"], request.into());
}
