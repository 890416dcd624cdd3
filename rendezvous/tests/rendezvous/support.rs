//! A server on a port of its own, and the two who meet there: an executor and a harness that do what they are told.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use codex_exec_protocol::relay::{
    RelayData, RelayHandshake, RelayMessageFrame, RelayReset, RelayResume, relay_message_frame::Body,
};
use codex_outgoing::Outgoing;
use codex_rendezvous::status::Status;
use codex_rendezvous::tokens::{self, Grant, Role};
use codex_rendezvous::{Config, Limits, Rendezvous};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// For waits that end in a failed test.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it took too long")
}

/// Waits until a question, asked again and again, is answered with yes.
pub async fn eventually(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let answered = async {
        while !asked().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// A token for these roles and environments, and its grant.
pub fn mint(roles: &[Role], environments: &str) -> (String, Grant) {
    let roles: BTreeSet<_> = roles.iter().copied().collect();
    let (token, grant) = tokens::mint(roles, tokens::scope(environments).unwrap(), "test");
    (token.expose().to_owned(), grant)
}

pub fn config(grants: Vec<Grant>) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: None,
        tls: None,
        grants,
        store: None,
        allow_plain: true,
        audit: None,
        open_metrics: true,
        limits: Limits::default(),
        threads: 1,
        cluster: None,
    }
}

/// A running rendezvous and a token that may do everything.
pub struct Server {
    pub rendezvous: Rendezvous,
    pub token: String,
    pub grant: Grant,
    pub http: reqwest::Client,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (token, grant) = mint(&[Role::Executor, Role::Harness, Role::Observer], "*");
        Self::start_as(token, grant, change).await
    }

    pub async fn start_as(token: String, grant: Grant, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(vec![grant.clone()]);
        change(&mut config);
        let rendezvous = Rendezvous::start(config).await.unwrap();
        let http = Outgoing::local_http().unwrap();
        let http = http.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { rendezvous, token, grant, http }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.rendezvous.local_url())
    }

    /// A POST with a body, or with none at all.
    pub async fn post(&self, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.post(self.url(path)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What an operator is told, or with which code a token is refused.
    pub async fn status(&self, token: &str, query: &str) -> Result<Status, u16> {
        let url = self.url(&format!("{}{query}", codex_rendezvous::status::PATH));
        let answer = self.http.get(url).bearer_auth(token).send().await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        if code == 200 { Ok(serde_json::from_slice(&body).unwrap()) } else { Err(code) }
    }

    /// Registers with a key and attaches.
    pub async fn executor(&self, id: &str) -> Executor {
        let answer = self.register(id).await;
        let socket = Socket::open(answer["url"].as_str().unwrap()).await.unwrap();
        Executor {
            socket,
            url: answer["url"].as_str().unwrap().to_owned(),
            registration: text(&answer["executor_registration_id"]),
        }
    }

    /// Registers with a key.
    pub async fn register(&self, id: &str) -> Value {
        let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1)});
        let (status, answer) =
            self.post(&format!("/cloud/environment/{id}/register"), &self.token, Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Asks for the way to an environment.
    pub async fn connect(&self, id: &str, harness: u8) -> (u16, Value) {
        let body = json!({"harness_public_key": key(harness)});
        self.post(&format!("/cloud/environment/{id}/connect"), &self.token, Some(body)).await
    }

    /// Connects and attaches.
    pub async fn harness(&self, id: &str) -> Socket {
        let (status, answer) = self.connect(id, 9).await;
        assert_eq!(status, 200, "{answer}");
        Socket::open(answer["url"].as_str().unwrap()).await.unwrap()
    }

    pub async fn validate(
        &self,
        id: &str,
        registration: &str,
        harness: u8,
        authorization: &str,
    ) -> (u16, Value) {
        let body = json!({
            "executor_registration_id": registration, "harness_public_key": key(harness),
            "harness_key_authorization": authorization,
        });
        self.post(&format!("/cloud/environment/{id}/validate"), &self.token, Some(body)).await
    }
}

pub struct Executor {
    pub socket: Socket,
    pub url: String,
    pub registration: String,
}

/// A public key object; two with the same seed are the same key.
pub fn key(seed: u8) -> Value {
    json!({
        "suite": "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256",
        "x25519_public_key": base64_simd::STANDARD.encode_to_string([seed; 32]),
        "mlkem768_public_key": base64_simd::STANDARD.encode_to_string([seed; 1184]),
    })
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// One end of a websocket.
#[derive(Debug)]
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// A refused upgrade: status, rejection reason, error code.
pub type Refused = (u16, String, String);

impl Socket {
    pub async fn open(url: impl tungstenite::client::IntoClientRequest + Unpin) -> Result<Self, Refused> {
        match patiently(connect_async(url)).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(tungstenite::Error::Http(answer)) => {
                let reason = answer.headers().get("x-codex-rendezvous-rejection-reason");
                let reason = reason.map_or_else(String::new, |reason| reason.to_str().unwrap().to_owned());
                let body: Value =
                    serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).unwrap();
                Err((answer.status().as_u16(), reason, text(&body["error"]["code"])))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn send(&mut self, frame: Bytes) {
        self.0.send(Message::Binary(frame)).await.unwrap();
    }

    /// The next frame, whatever pings come before it.
    pub async fn receive(&mut self) -> Bytes {
        match self.next().await {
            Message::Binary(frame) => frame,
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// The next frame: its stream, and its payload as text or `reset`.
    pub async fn said(&mut self) -> (String, String) {
        let frame = RelayMessageFrame::decode(self.receive().await).unwrap();
        let said = match frame.body.unwrap() {
            Body::Data(data) => String::from_utf8(data.payload.to_vec()).unwrap(),
            Body::Reset(reset) => {
                assert!(!reset.reason.is_empty());
                "reset".to_owned()
            }
            other => format!("{other:?}"),
        };
        (frame.stream_id, said)
    }

    async fn next(&mut self) -> Message {
        loop {
            match patiently(self.0.next()).await.expect("the socket ended").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// Waits for the close frame, over frames that come before it; its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        // All of it: a peer that goes on sending pings is not waited for without end.
        patiently(async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                        // Answers the close.
                        while let Some(Ok(_)) = self.0.next().await {}
                        return (code.into(), reason.to_string());
                    }
                    Some(Ok(_)) => {}
                    other => panic!("no close frame: {other:?}"),
                }
            }
        })
        .await
    }

    /// Waits until the connection is gone, however.
    pub async fn ended(&mut self) {
        while let Some(Ok(_)) = patiently(self.0.next()).await {}
    }

    /// Goes away with a close frame.
    pub async fn close(mut self) {
        self.0.close(None).await.unwrap();
        self.ended().await;
    }
}

fn frame(stream_id: &str, body: Body) -> Bytes {
    RelayMessageFrame {
        version: 1,
        stream_id: stream_id.to_owned(),
        body: Some(body),
        ..RelayMessageFrame::default()
    }
    .encode_to_vec()
    .into()
}

pub fn data(stream_id: &str, payload: impl Into<Bytes>) -> Bytes {
    frame(
        stream_id,
        Body::Data(RelayData { seq: 0, segment_index: 0, segment_count: 1, payload: payload.into() }),
    )
}

pub fn resume(stream_id: &str) -> Bytes {
    frame(stream_id, Body::Resume(RelayResume { next_seq: 0 }))
}

pub fn handshake(stream_id: &str, payload: &'static [u8]) -> Bytes {
    frame(stream_id, Body::Handshake(RelayHandshake { payload: payload.into() }))
}

pub fn reset(stream_id: &str, reason: &str) -> Bytes {
    frame(stream_id, Body::Reset(RelayReset { reason: reason.to_owned() }))
}

pub fn pair(stream_id: &str, said: &str) -> (String, String) {
    (stream_id.to_owned(), said.to_owned())
}
