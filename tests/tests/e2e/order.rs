//! Order of work: what is begun in order, what runs beside (design, "Requests on one connection").

use codex_e2e::client::start_params;
use codex_e2e::{Server, base64, bytes_of};
use serde_json::json;

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
