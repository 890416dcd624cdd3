//! The executor's streams of a plain relay (4.1, 4.2): no I/O, no clock.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::event::RelayEvent;
use crate::frame::{self, Body, Frame};
use crate::json;
use crate::limits::RelayLimits;
use crate::open_streams::{Carrier, Open};
use crate::stream_id::{StreamId, StreamKey};

/// All streams of one websocket.
#[derive(Debug)]
pub(crate) struct PlainStreams {
    limits: RelayLimits,
    pub(crate) open: Open<Sent>,
    /// Ids whose stream died silently: the next frame on each is lost. Oldest first, as many as streams at most.
    dead: VecDeque<StreamId>,
}

/// Frames so far; the lower half is the next one's number.
#[derive(Debug, Default)]
pub(crate) struct Sent(u64);

impl Carrier for Sent {
    fn frames(&self) -> u64 {
        self.0
    }
}

impl PlainStreams {
    pub(crate) fn new(limits: RelayLimits) -> Self {
        let open = Open::new(limits.plain_message_bytes, limits.queued_bytes);
        Self { limits, open, dead: VecDeque::new() }
    }

    pub(crate) fn receive(&mut self, _now: Instant, message: Bytes) {
        let Some(Frame { stream_id, body }) = frame::parse_or_drop(message, self.limits.stream_id_bytes)
        else {
            return;
        };
        match body {
            Body::Data { payload, .. } => self.data(&stream_id, payload),
            Body::Reset(_) => self.reset(&stream_id),
            Body::Ack(ack) => self.open.acked(&stream_id, ack),
            Body::Handshake(_) | Body::Heartbeat | Body::Idle => {}
        }
    }

    fn data(&mut self, stream_id: &str, message: Bytes) {
        if !json::is_message(&message) {
            tracing::debug!(stream_id, "frame dropped: its payload is no JSON-RPC message");
            return;
        }
        if let Some(at) = self.dead.iter().position(|id| id.as_str() == stream_id) {
            self.dead.remove(at);
            return;
        }
        if let Some(stream) = self.open.key(stream_id).or_else(|| self.begin(stream_id)) {
            self.open.deliver(stream, message);
        }
    }

    fn begin(&mut self, stream_id: &str) -> Option<StreamKey> {
        if self.open.len() >= self.limits.streams {
            tracing::warn!(limit = self.limits.streams, "frame dropped: there are too many streams");
            return None;
        }
        let id = StreamId::from(stream_id);
        let key = self.open.claim(&id);
        self.open.insert(key, id, Sent::default());
        Some(key)
    }

    fn reset(&mut self, stream_id: &str) {
        self.dead.retain(|id| id.as_str() != stream_id);
        let Some(key) = self.open.key(stream_id) else { return };
        if self.open.remove(key).is_some_and(|stream| !stream.ending) {
            self.open.tell(RelayEvent::Closed { stream: key });
        }
    }

    pub(crate) fn close(&mut self, key: StreamKey) {
        if self.open.end(key) {
            self.bury(key);
        }
    }

    /// Nothing is sent of its end; the next frame on its id is lost, the one after opens a new connection (4.2).
    fn bury(&mut self, key: StreamKey) {
        let Some(stream) = self.open.remove(key) else { return };
        if self.dead.len() >= self.limits.streams {
            self.dead.pop_front();
        }
        self.dead.push_back(stream.id);
    }

    pub(crate) fn has_transmit(&self) -> bool {
        self.open.has_turn()
    }

    pub(crate) fn next_transmit(&mut self) -> Option<Bytes> {
        let key = self.open.turn()?;
        let stream = self.open.get_mut(key)?;
        let message = stream.queue.pop()?;
        let frame = frame::data(stream.id.as_str(), stream.carrier.0 as u32, &message);
        stream.carrier.0 += 1;
        if self.open.turned(key) {
            self.bury(key);
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests;
