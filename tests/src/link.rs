//! Carries messages to and from a server: websocket messages, or lines on a pipe or Unix socket.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A websocket over any byte stream.
pub type Socket = WebSocketStream<Box<dyn Io>>;

/// The sending half.
pub enum Sender {
    /// One message in one websocket text message.
    Socket(SplitSink<Socket, Message>),
    /// One message in one line.
    Lines(Box<dyn AsyncWrite + Unpin + Send>),
    /// The client has hung up.
    Gone,
}

/// The receiving half.
pub enum Receiver {
    /// Text messages.
    Socket(SplitStream<Socket>),
    /// Lines.
    Lines(BufReader<Box<dyn AsyncRead + Unpin + Send>>),
}

/// No limit on what is received: section 2.3 forbids one to clients.
pub fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

impl Sender {
    /// Sends one message as it stands.
    pub async fn text(&mut self, text: &str) -> Result<(), String> {
        match self {
            Self::Socket(sink) => sink.send(Message::text(text)).await.map_err(|e| e.to_string()),
            Self::Lines(pipe) => {
                pipe.write_all(text.as_bytes()).await.map_err(|e| e.to_string())?;
                pipe.write_all(b"\n").await.map_err(|e| e.to_string())?;
                pipe.flush().await.map_err(|e| e.to_string())
            }
            Self::Gone => Err("the client has hung up".into()),
        }
    }

    /// Sends any websocket message; panics on a line transport.
    pub async fn message(&mut self, message: Message) -> Result<(), Error> {
        match self {
            Self::Socket(sink) => sink.send(message).await,
            _ => panic!("only a websocket carries {message:?}"),
        }
    }

    /// Sends bytes without a line's end; panics on a websocket.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        match self {
            Self::Lines(pipe) => {
                pipe.write_all(bytes).await.expect("the pipe takes bytes");
                pipe.flush().await.expect("the pipe flushes");
            }
            _ => panic!("only a line transport carries pieces of lines"),
        }
    }
}

/// What came from the server.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Text(String),
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// A ping with its payload; the library answers it.
    Ping(Vec<u8>),
    /// A close frame's code, or none when the stream just ended.
    End(Option<u16>),
}

impl Receiver {
    /// Waits for the next thing.
    pub async fn next(&mut self) -> Received {
        match self {
            Self::Socket(stream) => match stream.next().await {
                Some(Ok(Message::Text(text))) => Received::Text(text.to_string()),
                Some(Ok(Message::Pong(payload))) => Received::Pong(payload.to_vec()),
                Some(Ok(Message::Ping(payload))) => Received::Ping(payload.to_vec()),
                Some(Ok(Message::Close(frame))) => Received::End(frame.map(|f| f.code.into())),
                Some(Ok(other)) => panic!("servers send text only (2.3), got {other:?}"),
                Some(Err(_)) | None => Received::End(None),
            },
            Self::Lines(pipe) => {
                let mut line = String::new();
                match pipe.read_line(&mut line).await {
                    Ok(0) | Err(_) => Received::End(None),
                    Ok(_) => {
                        assert!(line.ends_with('\n'), "the last line has no end: {line:?}");
                        Received::Text(line)
                    }
                }
            }
        }
    }
}
