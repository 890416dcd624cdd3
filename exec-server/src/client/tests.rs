//! The client against scripted servers.

use std::sync::Arc;
use std::time::Duration;

use codex_outgoing::{Outgoing, Roots};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::scripted::{Scripted, output, pings_keep_an_end_and_silence_does_not, start};
use super::*;
use crate::protocol::process::{List, ListParams};

/// One accepted connection of a scripted server.
pub(super) struct Peer(pub(super) WebSocketStream<TcpStream>);

impl Peer {
    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self(tokio_tungstenite::accept_async(stream).await.unwrap())
    }

    async fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

impl Scripted for Peer {
    async fn hear(&mut self) -> Option<Value> {
        Some(self.receive().await)
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn ping(&mut self) {
        while !matches!(self.0.next().await.unwrap().unwrap(), Message::Ping(_)) {}
    }
}

async fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    (listener, Endpoint::WebSocket { url, bearer: None })
}

#[tokio::test]
async fn a_cut_connection_is_resumed_without_a_lost_or_doubled_byte() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        assert_eq!(peer.handshake().await["resumeSessionId"], Value::Null);
        // The first output comes before the answer, the second out of order.
        let request = peer.receive().await;
        peer.output(1, "YQ==").await;
        peer.send(json!({"id": request["id"], "result": {"processId": "p"}})).await;
        peer.output(3, "Yw==").await;
        drop(peer);
        // Still attached: to be tried again.
        let mut peer = Peer::accept(&listener).await;
        let request = peer.receive().await;
        let error = json!({"code": -32010, "message": "attached"});
        peer.send(json!({"id": request["id"], "error": error})).await;
        let mut peer = Peer::accept(&listener).await;
        assert_eq!(peer.handshake().await["resumeSessionId"], "s1");
        peer.output(3, "Yw==").await;
        let read = json!({
            "chunks": [{"seq": 2, "stream": "stdout", "chunk": "Yg=="}, {"seq": 3, "stream": "stdout", "chunk": "Yw=="}],
            "nextSeq": 5, "exited": true, "exitCode": 3, "closed": false, "failure": null,
        });
        assert_eq!(peer.answer("process/read", read).await["afterSeq"], 1);
        peer.send(json!({"method": "process/closed", "params": {"processId": "p", "seq": 5}})).await;
        peer
    });
    let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
    let mut process = client.start(start()).await.unwrap();
    for expected in ["a", "b", "c"] {
        assert_eq!(process.next().await, output(expected));
    }
    assert!(matches!(process.next().await, Some(ProcessEvent::Exited { code: 3, .. })));
    assert_eq!(process.next().await, Some(ProcessEvent::Closed));
    assert_eq!(process.next().await, None);
    drop(server.await.unwrap());
}

#[tokio::test]
async fn answers_out_of_order_find_their_calls_and_a_loss_fails_the_unsafe_one() {
    let (listener, endpoint) = listen().await;
    let options = ClientOptions { recovery_time: Duration::from_millis(1), ..ClientOptions::default() };
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        let (first, second) = (peer.receive().await, peer.receive().await);
        assert_eq!((&first["id"], &second["id"]), (&json!(2), &json!(3)));
        peer.send(json!({"id": second["id"], "error": {"code": -32601, "message": "no"}})).await;
        peer.send(json!({"id": first["id"], "result": {"processes": []}})).await;
        peer.receive().await;
    });
    let client = Client::connect(endpoint, options).await.unwrap();
    let none = ListParams::default();
    let (first, second) = tokio::join!(client.call::<List>(&none), client.call::<List>(&none));
    assert!(first.unwrap().processes.is_empty());
    assert!(matches!(second, Err(ClientError::Rpc(error)) if error.code.0 == -32601));
    assert!(matches!(client.call::<List>(&none).await, Err(ClientError::Lost(_))));
    server.await.unwrap();
}

#[tokio::test]
async fn a_slow_follower_makes_the_server_wait_and_gets_every_byte() {
    const CHUNKS: u64 = 3000;
    const QUEUE_BYTES: usize = 64 << 10;
    let (listener, endpoint) = listen().await;
    let text = "x".repeat(8192);
    let base64 =
        String::from_utf8(serde_json::to_vec(&crate::protocol::Base64Bytes(text.clone().into())).unwrap());
    let base64 = base64.unwrap().trim_matches('"').to_owned();
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer.answer("process/start", json!({"processId": "p"})).await;
        for seq in 1..=CHUNKS {
            peer.output(seq, &base64).await;
        }
        peer
    });
    let options = ClientOptions { queue_bytes: QUEUE_BYTES, ..ClientOptions::default() };
    let client = Client::connect(endpoint, options).await.unwrap();
    let mut process = client.start(start()).await.unwrap();
    let mut most = 0;
    for taken in 0..CHUNKS {
        // Slow: takes only once as much waits as may, or as there still is.
        let left = usize::try_from(CHUNKS - taken).unwrap() * text.len();
        while process.inbox.queue.bytes() < QUEUE_BYTES.min(left) {
            tokio::task::yield_now().await;
        }
        most = most.max(process.inbox.queue.bytes());
        assert_eq!(process.next().await, output(&text));
    }
    assert!(most < QUEUE_BYTES + 2 * text.len(), "{most} bytes waited for the follower");
    drop(server.await.unwrap());
}

#[tokio::test]
async fn what_the_server_asks_is_answered_as_an_unknown_method() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        for id in [json!(1), json!("one")] {
            peer.send(json!({"id": id, "method": "network/policyRequest", "params": {}})).await;
            let answer = peer.receive().await;
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(-32601)), "{answer}");
        }
    });
    let _client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_without_streams_is_not_asked_for_one() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer.answer("process/list", json!({"processes": []})).await;
    });
    let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
    let connected = client.tcp_connect("localhost", 1).await.unwrap_err().to_string();
    let listening = client.tcp_listen(None, 0).await.unwrap_err().to_string();
    assert!(connected.contains("tcpStreams") && listening.contains("tcpStreams"), "{connected}; {listening}");
    client.call::<List>(&ListParams::default()).await.unwrap();
    server.await.unwrap();
}

/// Takes TLS off in front of a plain listener; the address, and the certificate in PEM.
async fn tls_in_front_of(listener: &TcpListener) -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (front, plain) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), listener.local_addr().unwrap());
    let url = format!("wss://localhost:{}", front.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = front.accept().await {
            // A client that does not trust us hangs up in the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut inner = TcpStream::connect(plain).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut inner).await });
        }
    });
    (url, cert.pem())
}

#[tokio::test]
async fn tls_needs_a_certificate_that_is_trusted() {
    let (listener, _) = listen().await;
    let (url, pem) = tls_in_front_of(&listener).await;
    let bearer = || Some("token".into());
    let endpoint = || Endpoint::WebSocket { url: url.clone(), bearer: bearer() };
    let (_, other) = tls_in_front_of(&listener).await;
    let only = |pem: &str| Outgoing::default().trusting_only(Roots::from_pem(pem.as_bytes()).unwrap());
    for outgoing in [Outgoing::default(), only(&other)] {
        let refused =
            Client::connect(endpoint(), ClientOptions { outgoing, ..ClientOptions::default() }).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer.answer("process/list", json!({"processes": []})).await;
    });
    let outgoing = only(&pem);
    let client =
        Client::connect(endpoint(), ClientOptions { outgoing, ..ClientOptions::default() }).await.unwrap();
    assert!(client.call::<List>(&ListParams::default()).await.unwrap().processes.is_empty());
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_goodbye_and_is_gone_is_not_waited_for() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer.answer("process/start", json!({"processId": "p"})).await;
        drop(listener);
        let away =
            tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "".into() };
        peer.0.close(Some(away)).await.unwrap();
        while peer.0.next().await.is_some_and(|message| message.is_ok()) {}
    });
    let options = ClientOptions { recovery_time: Duration::from_secs(3600), ..ClientOptions::default() };
    let client = Client::connect(endpoint, options).await.unwrap();
    let mut process = client.start(start()).await.unwrap();
    let Some(ProcessEvent::Disconnected { reason }) = process.next().await else { panic!("no end") };
    assert!(reason.contains("was stopped") && reason.contains("nobody listens"), "{reason}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_answers_pings_stays_and_a_silent_one_is_left() {
    let (listener, endpoint) = listen().await;
    pings_keep_an_end_and_silence_does_not(endpoint, async || Peer::accept(&listener).await).await;
}
