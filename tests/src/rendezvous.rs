//! A rendezvous played by the test: it takes upgrades one by one and does with them what the test says.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::guarded;
use crate::link::unlimited;

/// The query that its URLs carry: part of it is a secret.
pub const TICKET: &str = concat!("role=executor&sig=", crate::secret!("ticket%2F1"));

/// The listening socket.
pub struct ScriptedRendezvous {
    listener: TcpListener,
}

/// One upgrade that waits for its answer.
pub struct Attempt {
    /// Request line and headers, each with its `\r\n`.
    pub head: String,
    stream: TcpStream,
}

/// An executor's open websocket.
pub struct ExecutorSocket {
    socket: WebSocketStream<TcpStream>,
}

impl ScriptedRendezvous {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    /// The URL for executors.
    pub fn url(&self) -> String {
        format!("ws://{}/rv/executor?{TICKET}", self.listener.local_addr().expect("it is bound"))
    }

    /// Waits for the next upgrade.
    pub async fn attempt(&self) -> Attempt {
        let (mut stream, _) =
            guarded("an executor's connection", self.listener.accept()).await.expect("the socket accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut head = Vec::new();
        let reading = async {
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.expect("readable"), 0, "an upgrade was cut off");
            }
        };
        guarded("an upgrade", reading).await;
        Attempt { head: String::from_utf8(head).expect("a head is text"), stream }
    }

    /// Waits for the next upgrade and takes it.
    pub async fn executor(&self) -> ExecutorSocket {
        self.attempt().await.accept().await
    }
}

impl Attempt {
    /// Opens the websocket.
    pub async fn accept(mut self) -> ExecutorSocket {
        let key = self
            .head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| &line[18..]))
            .expect("an upgrade has a key")
            .trim();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        self.stream.write_all(answer.as_bytes()).await.expect("the executor reads");
        let socket = WebSocketStream::from_raw_socket(self.stream, Role::Server, Some(unlimited())).await;
        ExecutorSocket { socket }
    }

    /// Refuses with a status (`404 Not Found`) and further header lines (each with its `\r\n`).
    pub async fn refuse(mut self, status: &str, headers: &str) {
        let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
        self.stream.write_all(answer.as_bytes()).await.expect("the executor reads");
        let _ = self.stream.shutdown().await;
    }

    /// Gives the connection to the test, unanswered.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl ExecutorSocket {
    /// Sends a binary message.
    pub async fn send(&mut self, message: impl Into<Vec<u8>>) {
        self.message(Message::binary(message.into())).await;
    }

    /// Sends any message.
    pub async fn message(&mut self, message: Message) {
        guarded("the executor takes a message", self.socket.send(message)).await.expect("sending works");
    }

    /// The next message that is neither ping nor pong; none at the end.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match guarded("a message of the executor", self.socket.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message of any kind; none at the end.
    pub async fn next_of_any_kind(&mut self) -> Option<Message> {
        guarded("a message of the executor", self.socket.next()).await.and_then(Result::ok)
    }

    /// The websocket itself.
    pub fn into_inner(self) -> WebSocketStream<TcpStream> {
        self.socket
    }
}
