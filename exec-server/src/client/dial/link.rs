//! One connection that carries text messages, seen from the client.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::time::Interval;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use super::pings::pings;
use super::relayed::{RelayReader, RelayWriter};
use crate::client::options::ClientOptions;
use crate::registry::LastHeard;

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
        /// Tells when it has said nothing for too long (how long); none where the system tells that it is gone.
        silence: Option<(LastHeard, Duration)>,
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
    WebSocket {
        sink: Sent,
        /// When to ask the server for a sign of life.
        ping: Option<Interval>,
    },
    Relay(Box<RelayWriter>),
    Lines(BufWriter<Box<dyn AsyncWrite + Send + Unpin>>),
}

/// How a silent server is noticed: it is asked, and has to say something in time.
pub(in crate::client) struct Watch {
    last_heard: LastHeard,
    silence: Duration,
    ping: Interval,
}

impl Watch {
    /// As often, and for as long, as the options say.
    pub(in crate::client) fn new(last_heard: LastHeard, options: &ClientOptions) -> Self {
        Self { last_heard, silence: options.silence_time, ping: pings(options) }
    }
}

/// Both halves of a websocket.
pub(in crate::client) fn websocket(
    socket: WebSocketStream<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    watch: Option<Watch>,
) -> (LinkReader, LinkWriter) {
    let (sink, stream) = socket.split();
    let (silence, ping) = watch.map(|watch| ((watch.last_heard, watch.silence), watch.ping)).unzip();
    let reader = LinkReader::WebSocket { stream: Box::new(stream), going_away: false, silence };
    (reader, LinkWriter::WebSocket { sink: Box::new(sink), ping })
}

/// Returns once the server has said nothing for too long.
async fn silent(silence: Option<&(LastHeard, Duration)>) -> io::Error {
    match silence {
        Some((last_heard, bound)) => {
            last_heard.silent_for(*bound).await;
            let words = format!("the exec-server has shown no sign of life for {bound:?}");
            io::Error::new(io::ErrorKind::TimedOut, words)
        }
        None => std::future::pending().await,
    }
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
            Self::WebSocket { stream, going_away, silence } => loop {
                let received = tokio::select! {
                    biased;
                    received = stream.next() => received,
                    error = silent(silence.as_ref()) => return Err(error),
                };
                match received {
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
            Self::WebSocket { sink, .. } => {
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
            Self::WebSocket { sink, .. } => sink.flush().await.map_err(io::Error::other),
            Self::Relay(relay) => Ok(relay.flush().await?),
            Self::Lines(output) => output.flush().await,
        }
    }

    /// Waits until the connection itself has something to send, as a ping. Cancel-safe.
    pub(in crate::client) async fn chore(&mut self) {
        match self {
            Self::Relay(relay) => relay.chore().await,
            Self::WebSocket { ping: Some(ping), .. } => drop(ping.tick().await),
            Self::WebSocket { ping: None, .. } | Self::Lines(_) => std::future::pending().await,
        }
    }

    /// Sends what [`Self::chore`] waited for.
    pub(in crate::client) async fn do_chores(&mut self) -> io::Result<()> {
        match self {
            Self::Relay(relay) => Ok(relay.do_chores().await?),
            Self::WebSocket { sink, .. } => {
                sink.send(Message::Ping(Bytes::new())).await.map_err(io::Error::other)
            }
            Self::Lines(_) => Ok(()),
        }
    }

    /// Tells the server that nothing more comes.
    pub(in crate::client) async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::WebSocket { sink, .. } => sink.close().await.map_err(io::Error::other),
            Self::Relay(relay) => Ok(relay.close().await?),
            Self::Lines(output) => output.shutdown().await,
        }
    }
}
