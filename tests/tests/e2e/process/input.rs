//! What programs are sent (8.4).

use codex_e2e::{Server, base64, bytes_of};
use serde_json::json;

#[tokio::test]
async fn writes_say_what_became_of_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start("deaf", ["sleep", "1000"]).await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    assert_eq!(client.write("none", "x").await, "unknownProcess");
    assert_eq!(client.write("deaf", "x").await, "stdinClosed");
    assert_eq!(client.write("cat", "").await, "accepted");
    assert_eq!(client.write("cat", "hello\n").await, "accepted");
    client.output_until("cat", "hello\n").await;
    for bad in ["***", "YQ", "YQ==\n", "-_8="] {
        let params = json!({"processId": "cat", "chunk": bad});
        assert_eq!(client.refused("process/write", params).await, -32602, "{bad:?}");
    }
    for params in
        [json!({"processId": "cat"}), json!({"processId": "cat", "chunk": null}), json!({"chunk": ""})]
    {
        assert_eq!(client.refused("process/write", params.clone()).await, -32602, "{params}");
    }
    client.ok("process/terminate", json!({"processId": "cat"})).await;
    client.finish_after("cat", 1).await;
    let late = json!({"processId": "cat", "chunk": "eA=="});
    assert_eq!(client.refused("process/write", late).await, -32603);
    assert_eq!(client.write("deaf", "x").await, "stdinClosed");
}

#[tokio::test]
async fn writes_nobody_reads_are_accepted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("closed", "exec 0<&-; echo ready; exec sleep 1000", json!({"pipeStdin": true})).await;
    client.output_until("closed", "ready").await;
    client.shell_with("gone", "true", json!({"pipeStdin": true})).await;
    client.finish("gone").await;
    for _ in 0..3 {
        assert_eq!(client.write("closed", "x".repeat(1000)).await, "accepted");
        assert_eq!(client.write("gone", "x").await, "accepted");
    }
}

#[tokio::test]
async fn a_write_of_5_megabytes_arrives_whole() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("sum", ["sh", "-c", "head -c 5000000 | sha256sum"], json!({"pipeStdin": true})).await;
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(client.write("sum", &big).await, "accepted");
    use sha2::{Digest, Sha256};
    let hash: String = Sha256::digest(&big).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(client.finish("sum").await.stdout().starts_with(&hash));
}

#[tokio::test]
async fn a_write_id_makes_a_repeated_write_harmless() {
    let server = Server::builder().limit("remembered_write_ids", 3).start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    let write = |text: &str, id: &str| json!({"processId": "cat", "chunk": base64(text), "writeId": id});
    for (text, id) in
        [("one ", "1"), ("one ", "1"), ("other ", "1"), ("two ", "2"), ("three ", "3"), ("two ", "2")]
    {
        assert_eq!(client.ok("process/write", write(text, id)).await["status"], "accepted");
    }
    // The fourth id makes the first forgotten.
    client.ok("process/write", write("four ", "4")).await;
    client.ok("process/write", write("one-again end\n", "1")).await;
    let mut text = String::new();
    while !text.ends_with("end\n") {
        text.push_str(&String::from_utf8_lossy(&bytes_of(
            &client.next_notification("process/output").await["chunk"],
        )));
    }
    assert_eq!(text, "one two three four one-again end\n");
    assert_eq!(client.refused("process/write", write("x", "")).await, -32602);
    client.ok("process/terminate", json!({"processId": "cat"})).await;
    client.next_notification("process/closed").await;
    assert_eq!(
        client.ok("process/write", write("x", "4")).await["status"],
        "accepted",
        "known even after the end"
    );
    assert_eq!(client.refused("process/write", write("x", "5")).await, -32603);
}
