//! Contract A's websocket: JSON-RPC itself, one connection (2.3).

use codex_e2e::rendezvous::ExecutorSocket;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Contract;

async fn ask(socket: &mut ExecutorSocket, request: Message) -> Value {
    socket.message(request).await;
    next(socket).await
}

async fn next(socket: &mut ExecutorSocket) -> Value {
    match socket.next().await {
        Some(Message::Text(text)) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("no text frame: {other:?}"),
    }
}

#[tokio::test]
async fn each_message_is_a_text_frame_and_a_session_is_resumed_over_the_next_websocket() {
    let (registry, rendezvous) = Contract::Cloud.stage().await;
    let _executor = Contract::Cloud.executor(&registry.url).start();
    let mut socket = rendezvous.executor().await;
    let request = json!({"id": 1, "method": "initialize", "params": {"clientName": "t"}}).to_string();
    let answer = ask(&mut socket, Message::text(request)).await;
    let session = answer["result"]["sessionId"].as_str().expect("a session").to_string();
    socket.message(Message::text(r#"{"method":"initialized"}"#)).await;
    // Binary frames with JSON are understood too, and what is no JSON is answered.
    let answer = ask(&mut socket, Message::binary(br#"{"id":2,"method":"no/such"}"#.to_vec())).await;
    assert_eq!(answer["id"], 2);
    let answer = ask(&mut socket, Message::text("no json")).await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(-1), &json!(-32600)));
    let start =
        codex_e2e::client::start_params("p", ["sh", "-c", "read x; echo $x"], json!({"pipeStdin": true}));
    let request = json!({"id": 3, "method": "process/start", "params": start}).to_string();
    assert_eq!(ask(&mut socket, Message::text(request)).await["result"]["processId"], "p");
    drop(socket);

    let mut socket = rendezvous.executor().await;
    let params = json!({"clientName": "t", "resumeSessionId": session});
    let request = json!({"id": 1, "method": "initialize", "params": params}).to_string();
    assert_eq!(ask(&mut socket, Message::text(request)).await["result"]["sessionId"], session);
    socket.message(Message::text(r#"{"method":"initialized"}"#)).await;
    let write = json!({"processId": "p", "chunk": codex_e2e::base64("hi\n")});
    let request = json!({"id": 2, "method": "process/write", "params": write}).to_string();
    socket.message(Message::text(request)).await;
    loop {
        let message = next(&mut socket).await;
        if message["method"] == "process/output" {
            assert_eq!(codex_e2e::bytes_of(&message["params"]["chunk"]), b"hi\n");
            break;
        }
    }
    assert_eq!(registry.asked().len(), 2, "each websocket follows a registration of its own");
}
