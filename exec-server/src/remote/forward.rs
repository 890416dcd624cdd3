//! Leads each stream to a websocket of a server that runs already (11): messages pass as they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_outgoing::{Outgoing, is_loopback};
use codex_secret::Secret;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::http::{HeaderMap, header};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use url::Url;

use super::socket::{CLOSED, address, sentence};
use crate::Limits;
use crate::bearer;
use crate::registry::{self, Socket};
use crate::server::{Due, Liveness};
use crate::transport::{Carrier, FrameBuffer, MessageReader, PeerEvent};

/// From the first packet to the answer of the upgrade. Our own pace: nothing outside depends on it.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For the close frame of a stream that has ended. Our own pace: nothing outside depends on it.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// What a buffer keeps between messages. Chosen for speed.
const KEPT_BYTES: usize = 64 << 10;

/// A server that runs already, and how it is reached. Clones lead to the same.
#[derive(Clone)]
pub struct Forward(Arc<Destination>);

struct Destination {
    url: Url,
    /// As it was given: it is requested byte for byte.
    text: Secret,
    headers: HeaderMap,
    outgoing: Outgoing,
    limits: Limits,
}

impl Forward {
    /// A server at this `ws://` or `wss://` URL, with a token if it wants one. Asks nobody.
    ///
    /// # Errors
    /// A sentence for whoever wrote the URL, without any secret.
    pub fn new(
        url: &str,
        token: Option<&Secret>,
        outgoing: Outgoing,
        limits: Limits,
    ) -> Result<Self, String> {
        let text = url.trim();
        let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
        let secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            scheme => return Err(format!("the scheme {scheme:?} is not ws or wss")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a user name or password in the URL is never sent; give a token".to_owned());
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            if !secure && !is_loopback(&url) {
                return Err("a token is only sent over wss:// or to a loopback address".to_owned());
            }
            let value = bearer::header(token.expose().trim()).map_err(str::to_owned)?;
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self(Arc::new(Destination { url, text: text.into(), headers, outgoing, limits })))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Carries one stream until it, or the server's connection, ends.
    pub(super) async fn serve(&self, mut carrier: Carrier) {
        let longest = carrier.framing.longest_message().unwrap_or(usize::MAX);
        let connected = tokio::select! {
            connected = tokio::time::timeout(CONNECT_TIME, self.connect(longest)) => connected,
            () = carrier.reader.closed() => return,
        };
        let destination = address(&self.0.text);
        let why = match connected {
            Ok(Ok(socket)) => match carry(socket, carrier, &self.0.limits).await {
                Some(why) => why,
                None => return,
            },
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", CONNECT_TIME.as_secs()),
        };
        tracing::warn!("a stream was ended: the server at {destination} can't be used: {why}");
    }

    async fn connect(&self, longest: usize) -> Result<Socket, String> {
        let Destination { url, text, headers, outgoing, .. } = &*self.0;
        let request = registry::request(text.expose(), headers.clone()).map_err(|error| error.to_string())?;
        let upgraded = registry::upgrade(url, request, longest, outgoing).await;
        upgraded.map(|(socket, _)| socket).map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Forward").field(&address(&self.0.text)).finish()
    }
}

/// Carries messages both ways. Why the server's connection ended; none if the stream did.
async fn carry(socket: Socket, carrier: Carrier, limits: &Limits) -> Option<String> {
    let Carrier { reader, sink, framing, owner: _, peer: _ } = carrier;
    let (mut to_server, from_server) = socket.split();
    let (alive, pings) = mpsc::channel(1);
    let ended = tokio::select! {
        ended = send(&mut to_server, reader, pings) => ended,
        why = receive(from_server, sink, FrameBuffer::new(framing), alive, limits) => why,
    };
    // Whether the server hears of it in time or finds out by itself: the stream is over.
    let _ = tokio::time::timeout(CLOSING_TIME, to_server.close()).await;
    ended
}

/// From the stream to the server, as binary frames, and a ping when one is wanted.
async fn send(
    server: &mut SplitSink<Socket, Message>,
    mut reader: MessageReader,
    mut pings: mpsc::Receiver<()>,
) -> Option<String> {
    loop {
        let message = tokio::select! {
            event = reader.next() => match event {
                Ok(PeerEvent::Message(message)) => Message::Binary(Bytes::copy_from_slice(message)),
                Ok(PeerEvent::Ping(_) | PeerEvent::Pong(_)) => continue,
                Ok(PeerEvent::Close(_) | PeerEvent::End) | Err(_) => return None,
            },
            Some(()) = pings.recv() => Message::Ping(Bytes::new()),
        };
        if let Err(error) = server.send(message).await {
            return Some(sentence(&error));
        }
    }
}

/// From the server to the stream, which sets the pace. None if the stream takes nothing more.
async fn receive(
    mut server: SplitStream<Socket>,
    mut sink: Box<dyn AsyncWrite + Send + Unpin>,
    mut frames: FrameBuffer,
    pings: mpsc::Sender<()>,
    limits: &Limits,
) -> Option<String> {
    let mut live = Liveness::new(Instant::now(), limits);
    loop {
        let received = tokio::select! {
            received = server.next() => received,
            () = tokio::time::sleep_until(live.next_wake().into()) => match live.due(Instant::now()) {
                Due::Gone => return Some("it shows no sign of life".to_owned()),
                Due::Ping => {
                    // One that is not sent yet is as good.
                    let _ = pings.try_send(());
                    continue;
                }
                Due::Nothing => continue,
            },
        };
        let message: Bytes = match received {
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(_))) | None => return Some(CLOSED.to_owned()),
            // The library answers pings.
            Some(Ok(_)) => {
                live.heard(Instant::now());
                continue;
            }
            Some(Err(error)) => return Some(sentence(&error)),
        };
        frames.message(message.len(), |out| out.extend_from_slice(&message));
        let written = sink.write_all(frames.bytes()).await;
        frames.clear(KEPT_BYTES);
        if written.is_err() {
            return None;
        }
        live.heard(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_only_where_nobody_can_read_it() {
        let token = Secret::from("t");
        for (url, with_token, good) in [
            ("ws://127.0.0.1:1/", true, true),
            ("ws://localhost:1", true, true),
            ("wss://host.test/a?b", true, true),
            ("ws://host.test/", false, true),
            ("ws://host.test/", true, false),
            ("http://127.0.0.1:1/", false, false),
            ("ws://user@127.0.0.1/", false, false),
            ("no url", false, false),
        ] {
            let token = with_token.then_some(&token);
            let made = Forward::new(url, token, Outgoing::default(), Limits::default());
            assert_eq!(made.is_ok(), good, "{url}");
        }
    }
}
