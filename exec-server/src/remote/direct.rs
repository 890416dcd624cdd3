//! Contracts A and F on an open websocket: one JSON-RPC connection, each message a text frame (2.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::lent::Lent;
use super::outcome::Ended;
use super::socket::{CLOSED, farewell, sentence};
use crate::Limits;
use crate::registry::Socket;
use crate::server::{Due, Liveness};
use crate::transport::{Inlet, Outbound, Outlet, StreamBounds, stream};

/// Longest message that is sent: more than the largest file in base64. A safeguard, far from any real use.
const LONGEST_MESSAGE: usize = 1 << 30;

/// Serves the websocket until it ends; why it did.
pub(super) async fn serve(lent: &Lent, socket: Socket) -> Ended {
    let limits = lent.limits();
    let bounds = StreamBounds {
        incoming_bytes: limits.relay.stream_incoming_bytes,
        outgoing_bytes: limits.relay.stream_outgoing_bytes,
        longest_message: LONGEST_MESSAGE,
    };
    let news = Arc::new(Notify::new());
    let wake = Arc::clone(&news);
    let (carrier, inlet, outlet) = stream::stream(bounds, move || wake.notify_one());
    let (sink, source) = socket.split();
    tokio::select! {
        () = lent.serve(carrier) => "the connection was ended by a message that no client may send".to_owned().into(),
        reason = read(limits, source, &inlet, &news) => reason,
        reason = write(sink, &outlet, &news, limits.transport.ping_interval) => reason.into(),
    }
}

async fn read(limits: &Limits, mut source: SplitStream<Socket>, inlet: &Inlet, news: &Notify) -> Ended {
    let mut live = Liveness::new(Instant::now(), limits);
    let mut waiting: Option<Bytes> = None;
    loop {
        // A server that is behind stops the socket, as when it listens itself.
        if let Some(message) = waiting.take()
            && let Err(message) = inlet.push(message)
        {
            waiting = Some(message);
            inlet.taken().await;
            live.heard(Instant::now());
            continue;
        }
        tokio::select! {
            received = source.next() => {
                live.heard(Instant::now());
                match received {
                    Some(Ok(Message::Text(text))) => waiting = Some(text.into()),
                    Some(Ok(Message::Binary(bytes))) => waiting = Some(bytes),
                    Some(Ok(Message::Pong(payload))) => inlet.pong(payload),
                    // The library answers pings; the answer goes out with the next flush.
                    Some(Ok(Message::Ping(_))) => news.notify_one(),
                    Some(Ok(Message::Close(frame))) => return farewell(&mut source, frame.as_ref()).await,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return sentence(&error).into(),
                    None => return CLOSED.to_owned().into(),
                }
            }
            () = tokio::time::sleep_until(live.next_wake().into()) => match live.due(Instant::now()) {
                Due::Gone => return "the rendezvous shows no sign of life".to_owned().into(),
                // The writer pings.
                Due::Ping | Due::Nothing => {}
            },
        }
    }
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    outlet: &Outlet,
    news: &Notify,
    ping_interval: Duration,
) -> String {
    let sending = async {
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + ping_interval, ping_interval);
        loop {
            match outlet.take() {
                Some(Outbound::Ping(payload)) => sink.feed(Message::Ping(payload)).await?,
                Some(Outbound::Message(message)) => match Utf8Bytes::try_from(message) {
                    Ok(text) => sink.feed(Message::Text(text)).await?,
                    Err(error) => tracing::error!(%error, "a message that is not UTF-8 was not sent"),
                },
                None => {
                    sink.flush().await?;
                    tokio::select! {
                        () = news.notified() => {}
                        _ = pings.tick() => sink.feed(Message::Ping(Bytes::new())).await?,
                    }
                }
            }
        }
    };
    let ended: Result<std::convert::Infallible, _> = sending.await;
    match ended {
        Err(error) => sentence(&error),
        Ok(never) => match never {},
    }
}
