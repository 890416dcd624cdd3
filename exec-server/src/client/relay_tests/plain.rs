//! Plain relays, and what keeps the websocket of any relay alive.

use super::*;

/// A rendezvous for plain relays: its own executor, too.
async fn plain() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/path?x=1&role=harness", listener.local_addr().unwrap());
    (listener, Endpoint::WebSocket { url, bearer: Some("token".into()) })
}

async fn plain_executor(listener: &TcpListener) -> Executor {
    let (stream, _) = listener.accept().await.unwrap();
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.headers()["authorization"], "Bearer token");
        assert_eq!(request.uri(), "/path?x=1&role=harness");
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, check).await.unwrap();
    Executor::new(socket, ExecutorStreams::plain(RelayLimits::default()))
}

#[tokio::test]
async fn a_url_with_the_harness_role_carries_plain_relay_frames_and_is_resumed_on_a_new_stream() {
    let (listener, endpoint) = plain().await;
    let script = async {
        let mut executor = plain_executor(&listener).await;
        let Some(Ok(Message::Binary(first))) = executor.socket.next().await else { panic!("no resume") };
        let first_id = frame::parse(first.clone(), 100).unwrap().stream_id;
        assert_eq!(first, frame::resume(&first_id));
        assert!(uuid::Uuid::parse_str(&first_id).is_ok());
        assert_eq!(executor.handshake().await["resumeSessionId"], Value::Null);
        assert_eq!(executor.id, first_id);
        // Frames for another stream are ignored; a reset for ours ends it.
        executor.socket.send(Message::Binary(frame::reset("another", "x"))).await.unwrap();
        executor.answer("process/list", json!({"processes": []})).await;
        executor.socket.send(Message::Binary(frame::reset(&first_id, "over"))).await.unwrap();
        let mut executor = plain_executor(&listener).await;
        assert_eq!(executor.handshake().await["resumeSessionId"], "s1");
        assert_ne!(executor.id, first_id);
        executor.answer("process/list", json!({"processes": []})).await;
        executor.socket.send(Message::text("{}")).await.unwrap();
        let mut executor = plain_executor(&listener).await;
        executor.handshake().await;
        executor.answer("process/list", json!({"processes": []})).await;
        assert_eq!(executor.receive().await.unwrap()["method"], "session/end");
        assert_eq!(executor.receive().await, None);
    };
    let use_it = async {
        let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
        let mut answered = 0;
        while answered < 3 {
            // One that was under way during a loss fails, and may be asked again.
            match client.call::<List>(&ListParams::default()).await {
                Ok(_) => answered += 1,
                Err(ClientError::Lost(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        client.close().await;
    };
    tokio::join!(script, use_it);
}

#[tokio::test]
async fn a_request_that_no_frame_carries_fails_alone() {
    let (listener, endpoint) = plain().await;
    let script = async {
        let mut executor = plain_executor(&listener).await;
        executor.handshake().await;
        executor.answer("process/list", json!({"processes": []})).await;
        executor
    };
    let use_it = async {
        let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
        let params = WriteParams {
            process_id: "p".into(),
            chunk: vec![0; 16 << 20].into(),
            write_id: Some("w".into()),
            eof: false,
            session_id: None,
            attachment_id: None,
        };
        let refused = client.call::<Write>(&params).await.unwrap_err();
        assert!(
            matches!(&refused, ClientError::Usage(sentence) if sentence.contains("in parts")),
            "{refused}"
        );
        client.call::<List>(&ListParams::default()).await.unwrap();
        client
    };
    tokio::join!(script, use_it);
}

#[tokio::test]
async fn a_rendezvous_that_answers_pings_stays_and_a_silent_one_is_left() {
    let (listener, endpoint) = plain().await;
    pings_keep_an_end_and_silence_does_not(endpoint, async || plain_executor(&listener).await).await;
}
