//! Many virtual streams on one open websocket (sections 4 and 8): moves messages between the socket, the streams' state
//! machine and a server connection for each stream.
//!
//! The state machine gives the streams fair turns. It holds one message of each; what else a stream has to send waits
//! in its own bounded queue, whose server connection waits when it is full.

mod lanes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use codex_relay::{ExecutorStreams, Handshake, RelayEvent, StreamKey, Verdict};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::lent::Lent;
use super::outcome::Ended;
use super::shutdown::Shutdown;
use super::socket::{CLOSED, farewell, sentence};
use crate::observe::Address;
use crate::registry::ExecutorRegistry;
use crate::registry::Socket;
use crate::server::{Due, Liveness};
use lanes::Lanes;

/// What the streams of one websocket are served by.
pub(super) struct Relay<'a> {
    pub(super) lent: &'a Lent,
    pub(super) registry: &'a Arc<ExecutorRegistry>,
    /// Contract E: part of every validation.
    pub(super) registration_id: Option<&'a str>,
    /// What the relay carries at most, in bytes; a longer answer becomes an error.
    pub(super) longest_message: usize,
    pub(super) shutdown: &'a Shutdown,
}

/// What runs for the streams.
#[derive(Default)]
struct Work {
    connections: JoinSet<()>,
    served: HashMap<Id, StreamKey>,
    validations: JoinSet<(StreamKey, Verdict)>,
    asked: HashMap<StreamKey, AbortHandle>,
}

impl Relay<'_> {
    /// Serves until the websocket ends; why it did. The streams end with it, and their sessions are detached.
    pub(super) async fn serve(&self, streams: ExecutorStreams, socket: Socket) -> Ended {
        let lanes = Lanes::new(streams, self.longest_message, self.lent.limits());
        let (sink, source) = socket.split();
        let _serving = self.shutdown.serving();
        tokio::select! {
            reason = self.read(source, &lanes) => reason,
            reason = write(sink, &lanes) => reason.into(),
        }
    }

    async fn read(&self, mut source: SplitStream<Socket>, lanes: &Lanes) -> Ended {
        let mut work = Work::default();
        let mut live = Liveness::new(Instant::now(), self.lent.limits());
        let mut farewell_ping = None;
        let mut stopping = std::pin::pin!(self.shutdown.asked());
        let mut stays = true;
        loop {
            while let Some(event) = lanes.next_event() {
                self.act(event, lanes, &mut work);
            }
            tokio::select! {
                received = source.next() => {
                    live.heard(Instant::now());
                    match received {
                        Some(Ok(Message::Binary(frame))) => lanes.receive(frame),
                        Some(Ok(Message::Pong(payload))) => {
                            lanes.pong(&payload);
                            if farewell_ping.as_ref() == Some(&payload) {
                                self.shutdown.said();
                            }
                        }
                        // The library answers pings; the answer goes out with the next flush.
                        Some(Ok(Message::Ping(_))) => lanes.wake_writer(),
                        Some(Ok(Message::Close(frame))) => return farewell(&mut source, frame.as_ref()).await,
                        // A text frame is no relay frame.
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return sentence(&error).into(),
                        None => return CLOSED.to_owned().into(),
                    }
                }
                () = lanes.has_events() => {}
                () = &mut stopping, if stays => {
                    stays = false;
                    // Sessions of a server elsewhere can be resumed.
                    farewell_ping = if self.lent.ends_with_us() { lanes.goodbye() } else { None };
                    if farewell_ping.is_none() {
                        self.shutdown.said();
                    }
                }
                Some(ended) = work.connections.join_next_with_id() => {
                    let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                    if let Some(stream) = work.served.remove(&id) {
                        lanes.finish(stream);
                    }
                }
                Some(answered) = work.validations.join_next() => {
                    if let Ok((stream, verdict)) = answered {
                        work.asked.remove(&stream);
                        lanes.validated(stream, verdict);
                    }
                }
                () = tokio::time::sleep_until(live.next_wake().into()) => match live.due(Instant::now()) {
                    Due::Nothing => {}
                    Due::Ping => lanes.control(Message::Ping(Bytes::new())),
                    Due::Gone => return "the rendezvous shows no sign of life".to_owned().into(),
                },
            }
        }
    }

    fn act(&self, event: RelayEvent, lanes: &Lanes, work: &mut Work) {
        match event {
            RelayEvent::Opened { stream, id } => {
                tracing::debug!(%id, "stream opened");
                let mut carrier = lanes.open(stream);
                carrier.peer = Address::Relay { stream: Some(id.to_string().into()) }.into();
                let lent = self.lent.clone();
                let task = work.connections.spawn(async move { lent.serve(carrier).await });
                work.served.insert(task.id(), stream);
            }
            RelayEvent::Message { stream, message } => lanes.deliver(stream, message),
            RelayEvent::Validate(handshake) => self.validate(handshake, work),
            RelayEvent::Room { stream } => lanes.fill(stream),
            RelayEvent::Acked { stream, frames } => lanes.acked(stream, frames),
            RelayEvent::Closed { stream } => {
                if let Some(asking) = work.asked.remove(&stream) {
                    asking.abort();
                }
                lanes.drop_lane(stream);
            }
        }
    }

    fn validate(&self, handshake: Handshake, work: &mut Work) {
        let stream = handshake.stream;
        let registry = Arc::clone(self.registry);
        let registration_id = self.registration_id.unwrap_or_default().to_owned();
        let asking = async move { (stream, registry.validate(&registration_id, handshake).await) };
        work.asked.insert(stream, work.validations.spawn(asking));
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, lanes: &Lanes) -> String {
    let sending = async {
        loop {
            match lanes.next_transmit() {
                Some(message) => sink.feed(message).await?,
                None => {
                    sink.flush().await?;
                    lanes.has_transmit().await;
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
