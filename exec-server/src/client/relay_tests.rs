//! The client through scripted registries, rendezvous and executors, over real sockets (`remote.md` section 9).

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_protocol::registry::{NOISE_PROFILE, PublicKey};
use codex_relay::{ExecutorStreams, Identity, RelayEvent, RelayLimits, StreamKey, Verdict, frame};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::scripted::{Scripted, output, pings_keep_an_end_and_silence_does_not, start};
use super::*;
use crate::protocol::process::{List, ListParams, Write, WriteParams};

mod plain;

type Socket = WebSocketStream<TcpStream>;

/// A registry, a rendezvous and the executor behind them.
struct World {
    registry: MockServer,
    rendezvous: TcpListener,
    executor: Arc<Identity>,
}

impl World {
    async fn new() -> Self {
        let executor = Arc::new(Identity::generate().unwrap());
        let rendezvous = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { registry: MockServer::start().await, rendezvous, executor }
    }

    /// What `/connect` answers when all is well.
    fn bundle(&self) -> Value {
        json!({
            "environment_id": "env-1",
            "url": format!("ws://{}/?role=harness&ticket=sesame", self.rendezvous.local_addr().unwrap()),
            "security_profile": NOISE_PROFILE,
            "executor_registration_id": "reg-1",
            "executor_public_key": self.executor.public_key(),
            "harness_key_authorization": "granted",
            "something_new": 1,
        })
    }

    /// `/connect` answers this, so many times.
    async fn connect_answers(&self, times: u64, answer: ResponseTemplate) {
        Mock::given(method("POST"))
            .and(path("/base/cloud/environment/env-1/connect"))
            .and(header("authorization", "Bearer sesame"))
            .and(header("chatgpt-account-id", "account"))
            .respond_with(answer)
            .up_to_n_times(times)
            .mount(&self.registry)
            .await;
    }

    async fn connect_works(&self, times: u64) {
        self.connect_answers(times, ResponseTemplate::new(200).set_body_json(self.bundle())).await;
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Registry(RegistryEnvironment {
            url: format!("{}/base//", self.registry.uri()),
            environment_id: "env-1".into(),
            token: "sesame\n".into(),
            account_id: Some("account".into()),
        })
    }

    /// How often `/connect` was asked, and with which keys.
    async fn asked(&self) -> Vec<PublicKey> {
        let requests = self.registry.received_requests().await.unwrap();
        let key = |request: &wiremock::Request| {
            let body: Value = request.body_json().unwrap();
            assert_eq!(body.as_object().unwrap().len(), 1);
            serde_json::from_value(body["harness_public_key"].clone()).unwrap()
        };
        requests.iter().map(key).collect()
    }

    async fn upgrade(&self) -> Socket {
        let (stream, _) = self.rendezvous.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    }

    async fn refuse_upgrade(&self, status: u16) {
        let (stream, _) = self.rendezvous.accept().await.unwrap();
        #[allow(clippy::result_large_err)]
        let refuse = |_: &Request, _: Response| -> Result<Response, ErrorResponse> {
            let answer =
                Response::builder().status(status).header("x-codex-rendezvous-rejection-reason", "expired");
            Err(answer.body(None).unwrap())
        };
        assert!(tokio_tungstenite::accept_hdr_async(stream, refuse).await.is_err());
    }

    async fn executor(&self) -> Executor {
        let limits = RelayLimits::default();
        let streams = ExecutorStreams::noise(Arc::clone(&self.executor), "env-1", "reg-1", limits);
        Executor::new(self.upgrade().await, streams)
    }
}

/// The executor of one websocket with one stream, speaking scripted JSON-RPC.
struct Executor {
    socket: Socket,
    streams: ExecutorStreams,
    stream: Option<StreamKey>,
    id: String,
    harness: Option<PublicKey>,
    verdict: Verdict,
}

impl Executor {
    fn new(socket: Socket, streams: ExecutorStreams) -> Self {
        let (id, verdict) = (String::new(), Verdict::Valid);
        Self { socket, streams, stream: None, id, harness: None, verdict }
    }

    /// The next message of the stream; none when the harness is gone.
    async fn receive(&mut self) -> Option<Value> {
        loop {
            while let Some(event) = self.streams.next_event() {
                match event {
                    RelayEvent::Validate(handshake) => {
                        assert_eq!(handshake.authorization.expose(), "granted");
                        self.harness = Some(handshake.harness_public_key);
                        self.streams.validated(Instant::now(), handshake.stream, self.verdict);
                    }
                    RelayEvent::Opened { stream, id } => {
                        (self.stream, self.id) = (Some(stream), id.to_string())
                    }
                    RelayEvent::Message { stream, message } => {
                        assert_eq!(Some(stream), self.stream);
                        return Some(serde_json::from_slice(&message).unwrap());
                    }
                    RelayEvent::Room { .. } | RelayEvent::Acked { .. } => {}
                    RelayEvent::Closed { .. } => return None,
                }
            }
            self.transmit().await;
            match self.socket.next().await {
                Some(Ok(Message::Binary(frame))) => self.streams.receive(Instant::now(), frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn transmit(&mut self) {
        while let Some(frame) = self.streams.next_transmit() {
            self.socket.send(Message::Binary(frame)).await.unwrap();
        }
    }
}

impl Scripted for Executor {
    async fn hear(&mut self) -> Option<Value> {
        self.receive().await
    }

    async fn send(&mut self, message: Value) {
        self.streams.send(self.stream.unwrap(), message.to_string().into()).unwrap();
        self.transmit().await;
    }

    async fn ping(&mut self) {
        while !matches!(self.socket.next().await.unwrap().unwrap(), Message::Ping(_)) {}
    }
}

async fn refusal(world: &World) -> ClientError {
    let options = ClientOptions { connect_time: Duration::from_secs(60), ..ClientOptions::default() };
    let error = Client::connect(world.endpoint(), options).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("sesame") && !text.contains("granted"), "{text}");
    error
}

#[tokio::test]
async fn an_environment_is_reached_and_resumed_through_its_registry_without_a_lost_or_doubled_byte() {
    let world = World::new().await;
    world.connect_works(2).await;
    let script = async {
        let mut executor = world.executor().await;
        assert_eq!(executor.handshake().await["resumeSessionId"], Value::Null);
        executor.answer("process/start", json!({"processId": "p"})).await;
        executor.output(1, "YQ==").await;
        executor.output(2, "Yg==").await;
        let first = (executor.id.clone(), executor.harness.clone().unwrap());
        drop(executor);
        let mut executor = world.executor().await;
        assert_eq!(executor.handshake().await["resumeSessionId"], "s1");
        let read = executor.answer("process/read", json!({
            "chunks": [{"seq": 3, "stream": "stdout", "chunk": "Yw=="}], "nextSeq": 6, "exited": true, "exitCode": 3,
            "closed": true, "failure": null,
        })).await;
        assert_eq!(read["afterSeq"], 2);
        assert_ne!(executor.id, first.0, "a new stream");
        assert_eq!(executor.harness.as_ref(), Some(&first.1), "the same harness");
        assert_eq!(executor.receive().await.unwrap()["method"], "session/end", "the harness says goodbye");
        assert_eq!(executor.receive().await, None);
        first.1
    };
    let use_it = async {
        let client = Client::connect(world.endpoint(), ClientOptions::default()).await.unwrap();
        let mut process = client.start(start()).await.unwrap();
        for expected in ["a", "b", "c"] {
            assert_eq!(process.next().await, output(expected));
        }
        assert!(matches!(process.next().await, Some(ProcessEvent::Exited { code: 3, .. })));
        assert_eq!(process.next().await, Some(ProcessEvent::Closed));
        drop(process);
        client.close().await;
    };
    let (harness, ()) = tokio::join!(script, use_it);
    assert_eq!(world.asked().await, [harness.clone(), harness]);
    for request in world.registry.received_requests().await.unwrap() {
        assert_eq!(request.headers.get("user-agent"), None);
        assert_eq!(request.headers["accept"], "*/*");
    }
}

#[tokio::test]
async fn an_answer_that_can_not_be_used_is_final() {
    let world = World::new().await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut bundle = world.bundle();
        change(&mut bundle);
        ResponseTemplate::new(200).set_body_json(bundle)
    };
    let error = json!({"error": {"code": "no_online_executor", "message": "nobody there"}});
    let answers = [
        (ResponseTemplate::new(401), "401"),
        (ResponseTemplate::new(403), "403"),
        (ResponseTemplate::new(404), "404"),
        (ResponseTemplate::new(409).set_body_json(error), "nobody there"),
        (ResponseTemplate::new(302).insert_header("location", "/elsewhere"), "302"),
        (ResponseTemplate::new(200).set_body_string("no json"), "can't be used"),
        (ResponseTemplate::new(200).set_body_bytes(vec![b' '; (1 << 20) + 1]), "1048576"),
        (changed(&|bundle| bundle["environment_id"] = json!("env-2")), "another environment"),
        (changed(&|bundle| bundle["security_profile"] = json!("plain")), "plain"),
        (changed(&|bundle| bundle["executor_registration_id"] = json!(" ")), "blank"),
        (changed(&|bundle| bundle["harness_key_authorization"] = json!("")), "blank"),
        (changed(&|bundle| bundle["harness_key_authorization"] = json!("x".repeat(4097))), "4096"),
        (changed(&|bundle| bundle["url"] = json!("ws://rendezvous.example/")), "wss"),
        (changed(&|bundle| bundle["url"] = json!("http://127.0.0.1/")), "scheme"),
        (changed(&|bundle| bundle["executor_public_key"]["more"] = json!(1)), "more"),
        (changed(&|bundle| drop(bundle.as_object_mut().unwrap().remove("url"))), "url"),
    ];
    for (n, (answer, word)) in answers.into_iter().enumerate() {
        world.connect_answers(1, answer).await;
        match refusal(&world).await {
            ClientError::Refused { reason, .. } => assert!(reason.contains(word), "{word}: {reason}"),
            other => panic!("{word}: {other}"),
        }
        assert_eq!(world.asked().await.len(), n + 1, "{word}: asked once");
    }
}

#[tokio::test]
async fn a_registry_that_is_busy_and_a_rendezvous_without_executor_are_asked_again() {
    let world = World::new().await;
    world.connect_answers(1, ResponseTemplate::new(503)).await;
    world.connect_works(2).await;
    let script = async {
        world.refuse_upgrade(503).await;
        let mut executor = world.executor().await;
        executor.handshake().await;
        executor
    };
    let (executor, client) =
        tokio::join!(script, Client::connect(world.endpoint(), ClientOptions::default()));
    client.unwrap();
    drop(executor);
    assert_eq!(world.asked().await.len(), 3);
}

#[tokio::test]
async fn a_refused_ticket_is_made_good_once_by_a_fresh_one() {
    let world = World::new().await;
    world.connect_works(4).await;
    let script = async {
        world.refuse_upgrade(401).await;
        let mut executor = world.executor().await;
        executor.handshake().await;
        executor
    };
    let (executor, client) =
        tokio::join!(script, Client::connect(world.endpoint(), ClientOptions::default()));
    client.unwrap();
    drop(executor);
    let script = async {
        world.refuse_upgrade(401).await;
        world.refuse_upgrade(401).await;
    };
    let ((), error) = tokio::join!(script, refusal(&world));
    assert!(
        matches!(&error, ClientError::Connect { reason, .. } if reason.contains("401 (expired)")),
        "{error}"
    );
    assert_eq!(world.asked().await.len(), 4);
}

#[tokio::test]
async fn an_upgrade_refused_otherwise_ends_the_attempt() {
    let world = World::new().await;
    world.connect_works(1).await;
    let ((), error) = tokio::join!(world.refuse_upgrade(404), refusal(&world));
    assert!(matches!(&error, ClientError::Connect { reason, .. } if reason.contains("404")), "{error}");
}

#[tokio::test]
async fn a_rendezvous_that_never_answers_is_not_waited_for() {
    let world = World::new().await;
    world.connect_works(1).await;
    let options = ClientOptions { connect_time: Duration::from_millis(300), ..ClientOptions::default() };
    let (socket, client) = tokio::join!(world.upgrade(), Client::connect(world.endpoint(), options));
    assert!(matches!(client.unwrap_err(), ClientError::TimedOut { what: "the connection", .. }));
    drop(socket);
}

#[tokio::test]
async fn a_refused_harness_and_a_refused_executor_are_told_apart() {
    for verdict in [Verdict::Invalid, Verdict::CredentialRefused] {
        let world = World::new().await;
        world.connect_works(1).await;
        let script = async {
            let mut executor = world.executor().await;
            executor.verdict = verdict;
            assert_eq!(executor.receive().await, None);
        };
        match tokio::join!(script, refusal(&world)).1 {
            ClientError::Connect { reason, .. } => {
                assert!(reason.contains("refused this harness"), "{reason}")
            }
            ClientError::Refused { reason, .. } => {
                assert_eq!(verdict, Verdict::CredentialRefused);
                assert!(reason.contains("credential"), "{reason}");
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn nobody_but_the_executor_can_answer_the_handshake() {
    let world = World::new().await;
    world.connect_works(2).await;
    let script = async {
        // A rendezvous with a key of its own.
        let own = Arc::new(Identity::generate().unwrap());
        let streams = ExecutorStreams::noise(own, "env-1", "reg-1", RelayLimits::default());
        let mut executor = Executor::new(world.upgrade().await, streams);
        assert_eq!(executor.receive().await, None);
        assert_eq!(executor.harness, None);
    };
    let ((), error) = tokio::join!(script, refusal(&world));
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    let script = async {
        // One that makes up an answer.
        let mut socket = world.upgrade().await;
        let Some(Ok(Message::Binary(resume))) = socket.next().await else { panic!("no resume") };
        let id = frame::parse(resume, 100).unwrap().stream_id;
        socket.send(Message::Binary(frame::handshake(&id, vec![7; 3424].into()))).await.unwrap();
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    };
    let ((), error) = tokio::join!(script, refusal(&world));
    assert!(matches!(&error, ClientError::Connect { reason, .. } if reason.contains("channel")), "{error}");
}

#[tokio::test]
async fn an_environment_that_is_removed_while_in_use_ends_the_session_with_the_reason() {
    let world = World::new().await;
    world.connect_works(1).await;
    world.connect_answers(1, ResponseTemplate::new(404)).await;
    let script = async {
        let mut executor = world.executor().await;
        executor.handshake().await;
        executor.answer("process/start", json!({"processId": "p"})).await;
    };
    let options = ClientOptions { recovery_time: Duration::from_secs(3600), ..ClientOptions::default() };
    let use_it = async {
        let client = Client::connect(world.endpoint(), options).await.unwrap();
        client.start(start()).await.unwrap().next().await
    };
    let Some(ProcessEvent::Disconnected { reason }) = tokio::join!(script, use_it).1 else {
        panic!("went on")
    };
    assert!(reason.contains("404 Not Found"), "{reason}");
}

#[tokio::test]
async fn large_messages_pass_both_ways_through_the_encrypted_channel() {
    let world = World::new().await;
    world.connect_works(1).await;
    let text = "y".repeat(3 << 20);
    let script = async {
        let mut executor = world.executor().await;
        executor.handshake().await;
        let written = executor.answer("process/write", json!({"status": "accepted"})).await;
        assert!(written["chunk"].as_str().unwrap().len() > 4_000_000);
        executor.answer("process/start", json!({"processId": "p"})).await;
        let base64 = serde_json::to_value(crate::protocol::Base64Bytes(text.clone().into())).unwrap();
        executor.output(1, base64.as_str().unwrap()).await;
        executor.receive().await;
    };
    let use_it = async {
        let client = Client::connect(world.endpoint(), ClientOptions::default()).await.unwrap();
        let params = WriteParams {
            process_id: "p".into(),
            chunk: vec![0; 3 << 20].into(),
            write_id: None,
            eof: false,
            session_id: None,
            attachment_id: None,
        };
        client.call::<Write>(&params).await.unwrap();
        let mut process = client.start(start()).await.unwrap();
        assert_eq!(process.next().await, output(&text));
    };
    tokio::join!(script, use_it);
}
