//! The test client: connects, asks, listens, and tells what it has seen when a wait fails.

mod programs;

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::link::{Io, Received, Receiver, Sender, unlimited};
use crate::{GUARD, machine};
pub use programs::{Ended, start_params};

/// An error answer: its code and its text.
pub type Refusal = (i64, String);

/// A client of one connection.
pub struct TestClient {
    sender: Sender,
    receiver: Receiver,
    /// Received and not yet asked for.
    pending: VecDeque<Value>,
    /// The last messages both ways, for failures.
    story: VecDeque<String>,
    next_id: i64,
    /// Of the last handshake.
    pub session_id: String,
    /// The close frame's code, if the server ended with one.
    pub close_code: Option<u16>,
    ended: bool,
}

impl TestClient {
    /// Connects to `ws://IP:PORT`, or to `unix://PATH` with one message per line.
    pub async fn connect(url: &str) -> Self {
        if let Some(path) = url.strip_prefix("unix://") {
            return Self::unix_lines(Path::new(path)).await;
        }
        Self::try_connect(url, &[])
            .await
            .unwrap_or_else(|status| panic!("{url} refused the upgrade: {status}"))
    }

    /// Connects with extra headers; the error is the HTTP status.
    pub async fn try_connect(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let address = url.trim_start_matches("ws://").split(['/', '?']).next().expect("a host");
        let stream =
            guarded("a TCP connection", TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self::upgrade(url, headers, Box::new(stream)).await
    }

    /// Connects to a Unix socket with a websocket on it.
    pub async fn unix_socket(path: &Path) -> Self {
        Self::try_unix_socket(path, &[]).await.expect("the upgrade is accepted")
    }

    /// As [`Self::unix_socket`], with these headers; the HTTP status when the upgrade is refused.
    pub async fn try_unix_socket(path: &Path, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let stream = UnixStream::connect(path).await.expect("the server listens");
        Self::upgrade("ws://localhost/", headers, Box::new(stream)).await
    }

    /// Connects to a Unix socket, one message per line.
    pub async fn unix_lines(path: &Path) -> Self {
        let (reading, writing) = UnixStream::connect(path).await.expect("the server listens").into_split();
        Self::over_lines(reading, writing)
    }

    /// A client on a pipe.
    pub fn over_lines(
        reading: impl AsyncRead + Unpin + Send + 'static,
        writing: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self::new(Sender::Lines(Box::new(writing)), Receiver::Lines(BufReader::new(Box::new(reading))))
    }

    async fn upgrade(url: &str, headers: &[(&'static str, &str)], stream: Box<dyn Io>) -> Result<Self, u16> {
        let mut request = url.into_client_request().expect("a good URL");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a good header value"));
        }
        let upgrade = client_async_with_config(request, stream, Some(unlimited()));
        match guarded("the upgrade", upgrade).await {
            Ok((socket, _)) => {
                let (sink, stream) = socket.split();
                Ok(Self::new(Sender::Socket(sink), Receiver::Socket(stream)))
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("no answer to the upgrade: {error}"),
        }
    }

    fn new(sender: Sender, receiver: Receiver) -> Self {
        Self {
            sender,
            receiver,
            pending: VecDeque::new(),
            story: VecDeque::new(),
            next_id: 1,
            session_id: String::new(),
            close_code: None,
            ended: false,
        }
    }

    /// `initialize` and `initialized`.
    pub async fn handshake(&mut self) {
        self.handshake_with(json!({"clientName": "e2e"})).await.expect("initialize is accepted");
    }

    /// Takes up a session that lost its connection.
    pub async fn resume(&mut self, session_id: &str) -> Result<Value, Refusal> {
        self.handshake_with(json!({"clientName": "e2e", "resumeSessionId": session_id})).await
    }

    async fn handshake_with(&mut self, params: Value) -> Result<Value, Refusal> {
        let answer = self.call("initialize", params).await?;
        self.session_id = answer["sessionId"].as_str().expect("a sessionId").into();
        self.notify("initialized", json!({})).await;
        Ok(answer)
    }

    // Sending.

    /// Sends a request and waits for its answer; notifications that come before it stay to be read.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    /// The result of a request that must succeed.
    pub async fn ok(&mut self, method: &str, params: Value) -> Value {
        let shown = shorten(&params.to_string());
        match self.call(method, params).await {
            Ok(result) => result,
            Err((code, text)) => panic!("{method} {shown} was refused: {code} {text}"),
        }
    }

    /// The code of a request that must be refused, with a sentence.
    pub async fn refused(&mut self, method: &str, params: Value) -> i64 {
        let shown = shorten(&params.to_string());
        match self.call(method, params).await {
            Ok(result) => panic!("{method} {shown} was not refused: {}", shorten(&result.to_string())),
            Err((code, text)) => {
                assert!(!text.is_empty(), "{method} {shown}: a refusal needs a sentence");
                code
            }
        }
    }

    /// Sends a request without waiting; the id belongs to [`Self::answer`].
    pub async fn send(&mut self, method: &str, params: Value) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_raw(&json!({"id": id, "method": method, "params": params}).to_string()).await;
        id
    }

    /// Sends a notification.
    pub async fn notify(&mut self, method: &str, params: Value) {
        self.send_raw(&json!({"method": method, "params": params}).to_string()).await;
    }

    /// Sends any text as one message.
    pub async fn send_raw(&mut self, text: &str) {
        self.tell("->", text);
        let sent = timeout(GUARD, self.sender.text(text)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("sending failed: {error}{}", self.told()),
            Err(_) => panic!("the server does not take messages{}", self.told()),
        }
    }

    /// Sends any text as one message if the server still takes it.
    pub async fn try_send_raw(&mut self, text: &str) -> bool {
        self.tell("->", text);
        timeout(GUARD, self.sender.text(text)).await.is_ok_and(|sent| sent.is_ok())
    }

    /// Sends any websocket message.
    pub async fn send_message(&mut self, message: Message) {
        guarded("the server takes a message", self.sender.message(message)).await.expect("sending works");
    }

    /// Sends bytes of a line.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.sender.bytes(bytes).await;
    }

    /// Ends the sending direction of a line transport: the server sees the end of its input.
    pub fn end_input(&mut self) {
        self.sender = Sender::Gone;
    }

    /// Both halves, for tests that send while nobody reads.
    pub fn into_halves(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    // Receiving.

    /// The answer to a request sent before.
    pub async fn answer(&mut self, id: i64) -> Result<Value, Refusal> {
        let mut answer = self.until(|message| message["id"] == id && message.get("method").is_none()).await;
        if let Some(error) = answer.get("error") {
            let code = error["code"].as_i64().expect("an error has a code");
            return Err((code, error["message"].as_str().expect("an error has a message").into()));
        }
        Ok(answer.get_mut("result").unwrap_or_else(|| panic!("neither result nor error")).take())
    }

    /// The first message, received already or still to come, that fits; the others stay to be read.
    pub async fn until(&mut self, mut fits: impl FnMut(&Value) -> bool) -> Value {
        if let Some(at) = self.pending.iter().position(&mut fits) {
            return self.pending.remove(at).expect("a position inside");
        }
        loop {
            let Some(message) = self.receive().await else {
                panic!("the connection ended while waiting for a message{}", self.told());
            };
            if fits(&message) {
                return message;
            }
            self.pending.push_back(message);
        }
    }

    /// The next message in order, or `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Value> {
        match self.pending.pop_front() {
            Some(message) => Some(message),
            None => self.receive().await,
        }
    }

    /// The next message in order, if it comes within `patience`; for replaying recordings only.
    pub async fn next_within(&mut self, patience: std::time::Duration) -> Option<Option<Value>> {
        if let Some(message) = self.pending.pop_front() {
            return Some(Some(message));
        }
        if self.ended {
            return Some(None);
        }
        match timeout(patience, self.receiver.next()).await {
            Err(_) => None,
            Ok(received) => Some(self.took(received)),
        }
    }

    /// Whether the server has ended the connection.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next notification of this method, with its params.
    pub async fn next_notification(&mut self, method: &str) -> Value {
        self.until(|message| message["method"] == method).await["params"].take()
    }

    /// Waits until the server ends the connection; what came before is returned.
    pub async fn expect_closed(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(message) = self.next().await {
            rest.push(message);
        }
        rest
    }

    /// Waits for a pong and returns its payload.
    pub async fn expect_pong(&mut self) -> Vec<u8> {
        loop {
            match guarded("a pong", self.receiver.next()).await {
                Received::Pong(payload) => return payload,
                Received::End(_) => panic!("the connection ended instead of a pong"),
                _ => {}
            }
        }
    }

    /// Waits for a ping and returns its payload.
    pub async fn expect_ping(&mut self) -> Vec<u8> {
        loop {
            match guarded("a ping", self.receiver.next()).await {
                Received::Ping(payload) => return payload,
                Received::End(_) => panic!("the connection ended instead of a ping"),
                _ => {}
            }
        }
    }

    async fn receive(&mut self) -> Option<Value> {
        // Pings and pongs are no news: who waits for a message waits no longer for them.
        let patience = tokio::time::sleep(GUARD);
        tokio::pin!(patience);
        loop {
            if self.ended {
                return None;
            }
            tokio::select! {
                received = self.receiver.next() => {
                    let end = matches!(received, Received::End(_));
                    if let Some(message) = self.took(received) {
                        return Some(message);
                    }
                    if end {
                        return None;
                    }
                }
                () = &mut patience => {
                    let (told, family) = (self.told(), machine::family());
                    panic!("nothing came for {} s{told}\nwhat runs below this test:\n{family}", GUARD.as_secs())
                }
            }
        }
    }

    fn took(&mut self, received: Received) -> Option<Value> {
        match received {
            Received::Text(text) => {
                self.tell("<-", &text);
                let message: Value = serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("the server sent no JSON: {error}: {}", shorten(&text)));
                assert!(message.get("jsonrpc").is_none(), "the server never sends `jsonrpc` (4): {message}");
                Some(message)
            }
            Received::End(code) => {
                self.tell("<-", "(end)");
                self.close_code = code;
                self.ended = true;
                None
            }
            Received::Ping(_) | Received::Pong(_) => None,
        }
    }

    // What happened, for failures.

    fn tell(&mut self, direction: &str, text: &str) {
        if self.story.len() == 24 {
            self.story.pop_front();
        }
        self.story.push_back(format!("{direction} {}", shorten(text)));
    }

    fn told(&self) -> String {
        let story: Vec<&str> = self.story.iter().map(String::as_str).collect();
        format!("; the last messages were\n{}", story.join("\n"))
    }
}

/// Awaits with the guard time; panics with what was awaited.
pub async fn guarded<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(GUARD, work)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen within {} s", GUARD.as_secs()))
}

fn shorten(text: &str) -> String {
    let mut cut = text.trim_end().len().min(300);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let more =
        if cut < text.trim_end().len() { format!("… ({} bytes)", text.len()) } else { String::new() };
    format!("{}{more}", &text[..cut])
}
