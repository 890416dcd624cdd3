//! Byte streams (`docs/extensions.md`): connections made and taken by the server, credit, and ends.

use codex_e2e::client::guarded;
use codex_e2e::{Server, TestClient, base64, bytes_of};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A stream named `s` to a listener of the test, with the other end.
async fn joined(client: &mut TestClient) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ends = client.ok("tcp/connect", json!({"streamId": "s", "host": "127.0.0.1", "port": port})).await;
    let (stream, from) = guarded("a connection", listener.accept()).await.unwrap();
    assert_eq!(ends["localAddress"], from.to_string());
    assert_eq!(ends["peerAddress"], format!("127.0.0.1:{port}"));
    stream
}

async fn read(client: &mut TestClient, stream: &str) -> (Vec<u8>, bool) {
    let read = client.ok("tcp/read", json!({"streamId": stream})).await;
    (bytes_of(&read["chunk"]), read["eof"] == true)
}

fn write(stream: &str, bytes: impl AsRef<[u8]>) -> Value {
    json!({"streamId": stream, "chunk": base64(bytes)})
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let hello = client.ok("initialize", json!({"clientName": "t"})).await;
    assert_eq!(hello["environmentInfo"]["capabilities"]["tcpStreams"], true);
    client.notify("initialized", json!({})).await;
    let mut peer = joined(&mut client).await;
    client.ok("tcp/write", write("s", "ping")).await;
    client.ok("tcp/shutdown", json!({"streamId": "s"})).await;
    let mut heard = Vec::new();
    guarded("the end", peer.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"ping");
    let waiting = client.send("tcp/read", json!({"streamId": "s"})).await;
    peer.write_all(b"pong").await.unwrap();
    let answer = client.answer(waiting).await.unwrap();
    assert_eq!((bytes_of(&answer["chunk"]), &answer["eof"]), (b"pong".to_vec(), &json!(false)));
    drop(peer);
    assert_eq!(read(&mut client, "s").await, (Vec::new(), true));
    assert_eq!(read(&mut client, "s").await, (Vec::new(), true), "the end stays the end");
    client.ok("tcp/close", json!({"id": "s"})).await;
    assert_eq!(client.refused("tcp/read", json!({"streamId": "s"})).await, -32004);
}

#[tokio::test]
async fn a_port_of_the_machine_is_listened_on_until_it_is_closed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let listening = client.ok("tcp/listen", json!({"listenerId": "l", "port": 0})).await;
    let address = listening["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for name in ["a", "b"] {
        let waiting = client.send("tcp/accept", json!({"listenerId": "l", "streamId": name})).await;
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let accepted = client.answer(waiting).await.unwrap();
        assert_eq!(accepted["peerAddress"], stream.local_addr().unwrap().to_string());
        client.ok("tcp/write", write(name, name)).await;
        let mut heard = [0];
        guarded("a byte", stream.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, name.as_bytes());
    }
    let waiting = client.send("tcp/accept", json!({"listenerId": "l", "streamId": "c"})).await;
    client.ok("tcp/close", json!({"id": "l"})).await;
    assert_eq!(client.answer(waiting).await.unwrap_err().0, -32600);
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens any more");
    // The listener's streams are their own.
    client.ok("tcp/write", write("a", "still")).await;
}

#[tokio::test]
async fn what_can_not_be_is_refused() {
    let server = Server::builder().limit("tcp_streams", 2).limit("tcp_piece_bytes", 1024).start().await;
    let mut client = server.client().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let connect = |more: Value| {
        let mut params = json!({"streamId": "x", "host": "127.0.0.1", "port": free});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let offline = json!({"permissions": {"type": "managed", "network": "restricted", "file_system": {"type": "unrestricted"}},
                         "windowsSandboxLevel": "disabled"});
    for (params, code) in [
        (connect(json!({})), -32004),
        (connect(json!({"host": "no-such-host.invalid"})), -32004),
        (connect(json!({"port": 0})), -32602),
        (connect(json!({"port": 70000})), -32602),
        (connect(json!({"streamId": ""})), -32602),
        (connect(json!({"streamId": "x".repeat(65)})), -32602),
        (connect(json!({"sandbox": offline})), -32600),
    ] {
        assert_eq!(client.refused("tcp/connect", params.clone()).await, code, "{params}");
    }
    let listen =
        |host: &str, sandbox: Value| json!({"listenerId": "l", "host": host, "port": 0, "sandbox": sandbox});
    assert_eq!(client.refused("tcp/listen", listen("127.0.0.1", offline.clone())).await, -32600);
    assert_eq!(client.refused("tcp/listen", listen("a.name", Value::Null)).await, -32603);
    let _peer = joined(&mut client).await;
    assert_eq!(client.refused("tcp/listen", json!({"listenerId": "s", "port": 0})).await, -32600, "in use");
    client.ok("tcp/listen", json!({"listenerId": "l", "port": 0})).await;
    assert_eq!(client.refused("tcp/connect", connect(json!({}))).await, -32600, "one too many");
    assert_eq!(client.refused("tcp/read", json!({"streamId": "l"})).await, -32004, "a listener is no stream");
    assert_eq!(client.refused("tcp/read", json!({"streamId": "s", "maxBytes": 0})).await, -32602);
    assert_eq!(client.refused("tcp/write", write("s", [0; 1025])).await, -32602);
    for _ in 0..4 {
        client.send("tcp/read", json!({"streamId": "s"})).await;
    }
    assert_eq!(client.refused("tcp/read", json!({"streamId": "s"})).await, -32600, "four wait already");
}

#[tokio::test]
async fn writes_to_a_peer_that_reads_nothing_wait_and_the_connection_goes_on() {
    const PIECE: usize = 1 << 20;
    // More than any system keeps for one connection.
    const PIECES: usize = 40;
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut peer = joined(&mut client).await;
    let mut writes = Vec::new();
    for _ in 0..PIECES {
        writes.push(client.send("tcp/write", write("s", vec![7; PIECE])).await);
        client.ok("environment/status", Value::Null).await;
    }
    let last = client.send("tcp/shutdown", json!({"streamId": "s"})).await;
    let refused = client.answer(last).await.unwrap_err();
    assert_eq!(refused.0, -32600, "four writes wait: {refused:?}");
    let reader = tokio::spawn(async move {
        let mut heard = vec![0; PIECE];
        let mut count = 0;
        while guarded("bytes", peer.read_exact(&mut heard)).await.is_ok() {
            assert!(heard.iter().all(|byte| *byte == 7));
            count += 1;
        }
        count
    });
    let mut taken = 0;
    for id in writes {
        match client.answer(id).await {
            Ok(_) => taken += 1,
            Err((code, text)) => assert!(code == -32600 && text.contains("too many writes"), "{text}"),
        }
    }
    client.ok("tcp/shutdown", json!({"streamId": "s"})).await;
    assert!(taken < PIECES, "nothing ever waited");
    assert_eq!(reader.await.unwrap(), taken, "what was taken arrives, and nothing else");
}

#[tokio::test]
async fn streams_end_with_their_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut peer = joined(&mut client).await;
    let listening = client.ok("tcp/listen", json!({"listenerId": "l", "port": 0})).await;
    client.send("tcp/read", json!({"streamId": "s"})).await;
    client.send("tcp/accept", json!({"listenerId": "l", "streamId": "a"})).await;
    drop(client);
    let mut end = Vec::new();
    // An end or a reset: either tells the peer.
    let _ = guarded("the end", peer.read_to_end(&mut end)).await;
    let address = listening["address"].as_str().unwrap().to_owned();
    guarded("the port to be closed", async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
