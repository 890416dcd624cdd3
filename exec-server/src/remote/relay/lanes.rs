//! What lies between a websocket's streams and their server connections: a lane for each stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use codex_relay::{ExecutorStreams, RelayEvent, SendError, StreamKey, Verdict};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::Limits;
use crate::transport::{Carrier, Inlet, Outbound, Outlet, StreamBounds, stream};

/// The lanes of one websocket, shared by its reader and its writer.
pub(super) struct Lanes {
    bounds: StreamBounds,
    /// The most that waits of all streams together, in bytes.
    all_incoming_bytes: usize,
    state: Mutex<State>,
    ready: Arc<Ready>,
    /// There are events that the writer's work gave rise to.
    events: Notify,
}

struct State {
    streams: ExecutorStreams,
    lanes: HashMap<StreamKey, Lane>,
    /// Pings, which go before everything else.
    controls: VecDeque<Message>,
    /// Pings of the streams that are not answered yet: their number, whose they are, and what that one sent.
    pings: VecDeque<(u64, StreamKey, Bytes)>,
    last_ping: u64,
    events: VecDeque<RelayEvent>,
}

struct Lane {
    inlet: Inlet,
    outlet: Outlet,
    /// The server's connection has ended; what it left is still sent.
    finished: bool,
    /// Its harness acks; the rendezvous's pongs count for nothing then.
    acks: bool,
    /// The server's pings that wait for acks: behind how many frames each was sent.
    asked: VecDeque<(u64, Bytes)>,
}

/// Streams whose lane has something to send again.
#[derive(Default)]
struct Ready {
    streams: Mutex<VecDeque<StreamKey>>,
    writer: Notify,
}

impl Lanes {
    /// `longest_message`: what the relay carries at most, in bytes.
    pub(super) fn new(streams: ExecutorStreams, longest_message: usize, limits: &Limits) -> Self {
        let bounds = StreamBounds {
            incoming_bytes: limits.relay.stream_incoming_bytes,
            outgoing_bytes: limits.relay.stream_outgoing_bytes,
            longest_message,
        };
        let state = State {
            streams,
            lanes: HashMap::new(),
            controls: VecDeque::new(),
            pings: VecDeque::new(),
            last_ping: 0,
            events: VecDeque::new(),
        };
        Self {
            bounds,
            all_incoming_bytes: limits.relay.all_incoming_bytes,
            state: Mutex::new(state),
            ready: Arc::default(),
            events: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Lets the writer look.
    pub(super) fn wake_writer(&self) {
        self.ready.writer.notify_one();
    }

    /// Takes a frame of the websocket.
    pub(super) fn receive(&self, frame: Bytes) {
        self.lock().streams.receive(Instant::now(), frame);
        self.wake_writer();
    }

    /// The registry's word on a handshake.
    pub(super) fn validated(&self, stream: StreamKey, verdict: Verdict) {
        self.lock().streams.validated(Instant::now(), stream, verdict);
        self.wake_writer();
    }

    /// What to act on next.
    pub(super) fn next_event(&self) -> Option<RelayEvent> {
        let mut state = self.lock();
        state.events.pop_front().or_else(|| state.streams.next_event())
    }

    /// Waits for events that do not come of the reader's own work.
    pub(super) async fn has_events(&self) {
        self.events.notified().await;
    }

    /// Sends a control frame of our own.
    pub(super) fn control(&self, message: Message) {
        self.lock().controls.push_back(message);
        self.wake_writer();
    }

    /// Tells every harness that this executor is stopped. The payload of the ping behind that; none without harnesses.
    pub(super) fn goodbye(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let frames = state.streams.goodbye();
        if frames.is_empty() {
            return None;
        }
        state.last_ping += 1;
        let number = Bytes::copy_from_slice(&state.last_ping.to_be_bytes());
        state.controls.extend(frames.into_iter().map(Message::Binary));
        state.controls.push_back(Message::Ping(number.clone()));
        drop(state);
        self.wake_writer();
        Some(number)
    }

    /// Makes a lane; the server's end of it.
    pub(super) fn open(&self, key: StreamKey) -> Carrier {
        let ready = Arc::clone(&self.ready);
        let (carrier, inlet, outlet) = stream::stream(self.bounds, move || {
            ready.streams.lock().push_back(key);
            ready.writer.notify_one();
        });
        self.lock()
            .lanes
            .insert(key, Lane { inlet, outlet, finished: false, acks: false, asked: VecDeque::new() });
        carrier
    }

    /// Hands a message to a stream's server connection. A stream whose connection is too far behind is ended, since
    /// waiting for it would hold up the others; its session can be resumed.
    pub(super) fn deliver(&self, key: StreamKey, message: Bytes) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get(&key) else { return };
        let waiting: usize = state.lanes.values().map(|lane| lane.inlet.waiting()).sum();
        let behind =
            lane.inlet.waiting() > 0 && waiting.saturating_add(message.len()) > self.all_incoming_bytes;
        if behind || lane.inlet.push(message).is_err() {
            tracing::warn!(
                limit = self.bounds.incoming_bytes,
                limit_of_all = self.all_incoming_bytes,
                "a stream was ended: more messages wait for their turn than the bound allows"
            );
            state.end(key);
            drop(state);
            self.wake_writer();
        }
    }

    /// Gives the pong to everybody whose ping it answers.
    pub(super) fn pong(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let mut state = self.lock();
        if number > state.last_ping {
            return;
        }
        while let Some((_, key, payload)) = state.pings.pop_front_if(|(asked, ..)| *asked <= number) {
            if let Some(lane) = state.lanes.get(&key) {
                lane.inlet.pong(payload);
            }
        }
    }

    /// The stream's harness has taken this many frames.
    pub(super) fn acked(&self, key: StreamKey, frames: u64) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&key) else { return };
        if !std::mem::replace(&mut lane.acks, true) {
            // Answers none of the server's pings, but tells that they will be.
            lane.inlet.pong(Bytes::from_static(&[0; 8]));
        }
        while let Some((_, payload)) = lane.asked.pop_front_if(|(asked, _)| *asked <= frames) {
            lane.inlet.pong(payload);
        }
    }

    /// The stream ended from the other side.
    pub(super) fn drop_lane(&self, key: StreamKey) {
        self.lock().forget(key);
    }

    /// The server's connection has ended.
    pub(super) fn finish(&self, key: StreamKey) {
        if let Some(lane) = self.lock().lanes.get_mut(&key) {
            lane.finished = true;
        }
        self.fill(key);
        self.wake_writer();
    }

    /// Moves what a stream has to send into the state machine, as far as that has room.
    pub(super) fn fill(&self, key: StreamKey) {
        self.lock().fill(key);
    }

    /// The next message for the websocket.
    pub(super) fn next_transmit(&self) -> Option<Message> {
        let mut state = self.lock();
        loop {
            let ready = self.ready.streams.lock().pop_front();
            let Some(key) = ready else { break };
            state.fill(key);
        }
        if let Some(message) = state.controls.pop_front() {
            return Some(message);
        }
        let frame = state.streams.next_transmit();
        while let Some(event) = state.streams.next_event() {
            match event {
                RelayEvent::Room { stream } => state.fill(stream),
                other => state.events.push_back(other),
            }
        }
        if !state.events.is_empty() {
            self.events.notify_one();
        }
        match frame {
            Some(frame) => Some(Message::Binary(frame)),
            None => state.controls.pop_front(),
        }
    }

    /// Waits until there may be something to transmit.
    pub(super) async fn has_transmit(&self) {
        self.ready.writer.notified().await;
    }
}

impl State {
    fn fill(&mut self, key: StreamKey) {
        while self.streams.has_room(key) {
            let Some(lane) = self.lanes.get(&key) else { return };
            match lane.outlet.take() {
                Some(Outbound::Message(message)) => match self.streams.send(key, message) {
                    Ok(()) => {}
                    Err(error @ (SendError::Ended | SendError::Full(_) | SendError::TooLong { .. })) => {
                        tracing::warn!(%error, "a stream was ended: it can't send a message");
                        self.end(key);
                    }
                },
                // The machine holds nothing of this stream now, so the ping follows all of its messages.
                Some(Outbound::Ping(payload)) if lane.acks => {
                    let Some((frames, heartbeat)) = self.streams.ask(key) else { return };
                    self.controls.push_back(Message::Binary(heartbeat));
                    if let Some(lane) = self.lanes.get_mut(&key) {
                        lane.asked.push_back((frames, payload));
                    }
                }
                Some(Outbound::Ping(payload)) => {
                    self.last_ping += 1;
                    let number = Bytes::copy_from_slice(&self.last_ping.to_be_bytes());
                    self.pings.push_back((self.last_ping, key, payload));
                    self.controls.push_back(Message::Ping(number));
                }
                None if lane.finished => self.end(key),
                None => return,
            }
        }
    }

    /// The stream's server connection is over.
    fn end(&mut self, key: StreamKey) {
        self.forget(key);
        self.streams.close(key);
    }

    /// Nobody waits for this stream's pongs any more: a rendezvous that sends none must not make them pile up.
    fn forget(&mut self, key: StreamKey) {
        self.lanes.remove(&key);
        self.pings.retain(|(_, whose, _)| *whose != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_relay::RelayLimits;

    #[test]
    fn a_stream_that_ends_leaves_no_unanswered_pings() {
        let streams = ExecutorStreams::plain(RelayLimits::default());
        let lanes = Lanes::new(streams, 1 << 20, &Limits::default());
        let mut keys = Vec::new();
        for id in ["A", "B"] {
            let message = br#"{"id":1,"method":"x"}"#;
            let length = message.len() as u8;
            let head = [&[8, 1, 0x12, 1], id.as_bytes(), &[0x2a, length + 4, 0x18, 1, 0x22, length]].concat();
            lanes.receive([&head[..], message].concat().into());
            while let Some(event) = lanes.next_event() {
                if let RelayEvent::Opened { stream, .. } = event {
                    keys.push((stream, lanes.open(stream)));
                }
            }
        }
        let (left, stays) = (keys[0].0, keys[1].0);
        for number in 1..=1000 {
            let mut state = lanes.lock();
            state.last_ping = number;
            let whose = if number % 2 == 0 { left } else { stays };
            state.pings.push_back((number, whose, Bytes::new()));
        }
        lanes.drop_lane(left);
        assert!(lanes.lock().pings.len() == 500 && lanes.lock().pings.iter().all(|ping| ping.1 == stays));
        lanes.pong(&1000_u64.to_be_bytes());
        assert!(lanes.lock().pings.is_empty());
    }
}
