//! Messages that no library sends: each request is refused with a sentence, and the next one works.

use codex_e2e::mcp::{McpServer, RawMcp};
use serde_json::{Value, json};

/// A call of `exec` whose arguments are these bytes.
fn call(id: u32, arguments: &[u8]) -> Vec<u8> {
    let head =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"exec","arguments":"#);
    [head.as_bytes(), arguments, b"}}"].concat()
}

#[tokio::test]
async fn what_can_not_be_read_is_refused_and_nobody_waits_in_vain() {
    let mut mcp = RawMcp::start().await;
    let deep = [b"{\"command\":".as_slice(), &b"[".repeat(100_000), &b"]".repeat(100_000), b"}"].concat();
    let cases: [(&str, Vec<u8>, Value, i64); 8] = [
        ("deep", call(10, &deep), json!(10), -32700),
        ("no UTF-8", call(11, b"{\"command\":\"\xFF\xFE\"}"), json!(11), -32700),
        ("half a character", call(12, br#"{"command":"\ud800"}"#), json!(12), -32700),
        ("an array", call(13, b"[1]"), json!(13), -32602),
        ("a number", call(14, b"7"), json!(14), -32602),
        ("a strange method", br#"{"jsonrpc":"2.0","id":"x","method":"a/b"}"#.to_vec(), json!("x"), -32601),
        ("garbage", b"\xFF\xFE garbage".to_vec(), Value::Null, -32700),
        ("half a message", br#"{"jsonrpc":"2.0","id":15,"#.to_vec(), Value::Null, -32700),
    ];
    for (what, line, id, code) in cases {
        mcp.send(&line).await;
        let answer = mcp.next().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{what}: {answer}");
        let words = answer["error"]["message"].as_str().unwrap();
        assert!(words.contains(' ') && words.len() < 600, "{what}: {words}");
    }
    // Nobody waits for an answer to these.
    mcp.send(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}"#).await;
    mcp.send(b"   ").await;
    mcp.send(&call(16, br#"{"argv":["echo","fine"]}"#)).await;
    let answer = mcp.next().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["structuredContent"]["output"]),
        (&json!(16), &json!("fine\n"))
    );
}

#[tokio::test]
async fn over_http_it_is_refused_too() {
    let tools = McpServer::start(&[], &[]).await;
    let host = tools.authority();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
    );
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in [deep.as_str(), "garbage", "{\"jsonrpc\":"] {
        let answer = tools.plain(&head, body).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(answer.split_once("\r\n\r\n").is_some_and(|(_, words)| words.len() > 10), "{answer}");
    }
}
