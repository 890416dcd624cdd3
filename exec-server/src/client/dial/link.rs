//! One connection that carries text messages, seen from the client.

use std::io;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use super::relayed::{RelayReader, RelayWriter};

/// A received message or line may have this many bytes, enough for the largest file in base64 (10.1). A longer one
/// ends the connection. A safeguard, far from any real use.
pub(in crate::client) const LONGEST_MESSAGE: usize = 1 << 30;

/// What a websocket receives, whatever it goes over.
type Received = Box<dyn Stream<Item = Result<Message, WsError>> + Send + Unpin>;
/// What takes a websocket's messages.
type Sent = Box<dyn Sink<Message, Error = WsError> + Send + Unpin>;

/// The receiving half of a connection, over any transport.
pub(in crate::client) enum LinkReader {
    WebSocket {
        stream: Received,
        /// The server said that it ends.
        going_away: bool,
    },
    Relay(Box<RelayReader>),
    Lines {
        input: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
        line: Vec<u8>,
        consumed: bool,
    },
}

/// The sending half of a connection, over any transport.
pub(in crate::client) enum LinkWriter {
    WebSocket(Sent),
    Relay(Box<RelayWriter>),
    Lines(BufWriter<Box<dyn AsyncWrite + Send + Unpin>>),
}

/// Both halves of a websocket.
pub(in crate::client) fn websocket(
    socket: WebSocketStream<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
) -> (LinkReader, LinkWriter) {
    let (sink, stream) = socket.split();
    let reader = LinkReader::WebSocket { stream: Box::new(stream), going_away: false };
    (reader, LinkWriter::WebSocket(Box::new(sink)))
}

/// Both halves of anything that carries lines.
pub(in crate::client) fn lines(
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> (LinkReader, LinkWriter) {
    let input = BufReader::with_capacity(64 << 10, Box::new(input) as Box<dyn AsyncRead + Send + Unpin>);
    (
        LinkReader::Lines { input, line: Vec::new(), consumed: true },
        LinkWriter::Lines(BufWriter::new(Box::new(output))),
    )
}

impl LinkReader {
    /// Whether the server said that it ends, and did not just lose the connection.
    pub(in crate::client) const fn is_going_away(&self) -> bool {
        match self {
            Self::WebSocket { going_away, .. } => *going_away,
            Self::Relay(relay) => relay.is_stopped(),
            Self::Lines { .. } => false,
        }
    }

    /// The next message; none when the server ended the connection. Cancel-safe.
    pub(in crate::client) async fn next(&mut self) -> io::Result<Option<Utf8Bytes>> {
        match self {
            Self::WebSocket { stream, going_away } => loop {
                match stream.next().await {
                    None
                    | Some(Err(
                        WsError::ConnectionClosed
                        | WsError::AlreadyClosed
                        | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                    )) => return Ok(None),
                    Some(Err(error)) => return Err(io::Error::other(error)),
                    Some(Ok(Message::Text(text))) => return Ok(Some(text)),
                    Some(Ok(Message::Binary(bytes))) => {
                        return Utf8Bytes::try_from(bytes).map(Some).map_err(io::Error::other);
                    }
                    Some(Ok(Message::Close(frame))) => {
                        *going_away = frame.is_some_and(|frame| frame.code == CloseCode::Away);
                    }
                    // Pings are answered by the library; a close is followed by the stream's end.
                    Some(Ok(_)) => {}
                }
            },
            Self::Relay(relay) => Ok(relay.next().await?),
            Self::Lines { input, line, consumed } => loop {
                if std::mem::take(consumed) {
                    line.clear();
                }
                let part = input.fill_buf().await?;
                if part.is_empty() {
                    return Ok(None);
                }
                let end = memchr::memchr(b'\n', part);
                let taken = end.map_or(part.len(), |at| at + 1);
                line.extend_from_slice(part.get(..end.unwrap_or(taken)).unwrap_or_default());
                input.consume(taken);
                if line.len() > LONGEST_MESSAGE {
                    return Err(io::Error::other(format!("a line of more than {LONGEST_MESSAGE} bytes")));
                }
                if end.is_some() {
                    *consumed = true;
                    if !line.trim_ascii().is_empty() {
                        let bytes = Bytes::from(std::mem::take(line));
                        return Utf8Bytes::try_from(bytes).map(Some).map_err(io::Error::other);
                    }
                }
            },
        }
    }
}

impl LinkWriter {
    /// Queues one message; [`Self::flush`] sends it.
    pub(in crate::client) async fn feed(&mut self, message: Bytes) -> io::Result<()> {
        match self {
            Self::WebSocket(sink) => {
                let text = Utf8Bytes::try_from(message).map_err(io::Error::other)?;
                sink.feed(Message::Text(text)).await.map_err(io::Error::other)
            }
            Self::Relay(relay) => Ok(relay.feed(message).await?),
            Self::Lines(output) => {
                output.write_all(&message).await?;
                output.write_all(b"\n").await
            }
        }
    }

    /// Sends what was fed.
    pub(in crate::client) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::WebSocket(sink) => sink.flush().await.map_err(io::Error::other),
            Self::Relay(relay) => Ok(relay.flush().await?),
            Self::Lines(output) => output.flush().await,
        }
    }

    /// Waits until the connection itself has something to send; only one through a rendezvous ever does. Cancel-safe.
    pub(in crate::client) async fn chore(&mut self) {
        match self {
            Self::Relay(relay) => relay.chore().await,
            Self::WebSocket(_) | Self::Lines(_) => std::future::pending().await,
        }
    }

    /// Sends what [`Self::chore`] waited for.
    pub(in crate::client) async fn do_chores(&mut self) -> io::Result<()> {
        match self {
            Self::Relay(relay) => Ok(relay.do_chores().await?),
            Self::WebSocket(_) | Self::Lines(_) => Ok(()),
        }
    }

    /// Tells the server that nothing more comes.
    pub(in crate::client) async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::WebSocket(sink) => sink.close().await.map_err(io::Error::other),
            Self::Relay(relay) => Ok(relay.close().await?),
            Self::Lines(output) => output.shutdown().await,
        }
    }
}
