//! The executor's streams of a plain relay (4.1, 4.2): no I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::frame::{self, Body, Frame};
use super::queue::{Queue, Turns};
use super::{Event, RelayLimits, SendError, StreamId, StreamKey, acked, json};

/// All streams of one websocket.
#[derive(Debug)]
pub(super) struct PlainStreams {
    limits: RelayLimits,
    ids: HashMap<StreamId, StreamKey>,
    streams: HashMap<StreamKey, Stream>,
    /// Ids whose stream died silently: the next frame on each is lost. Oldest first, as many as streams at most.
    dead: VecDeque<StreamId>,
    last_key: u64,
    turns: Turns,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// Frames so far; the lower half is the next one's number.
    sent: u64,
    queue: Queue,
    /// Ended here; it lives until its queue is empty, and takes no more messages.
    ending: bool,
}

impl PlainStreams {
    pub(super) fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            ids: HashMap::new(),
            streams: HashMap::new(),
            dead: VecDeque::new(),
            last_key: 0,
            turns: Turns::default(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn receive(&mut self, _now: Instant, message: Bytes) {
        let Frame { stream_id, body } = match frame::parse(message, self.limits.stream_id_bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "frame dropped");
                return;
            }
        };
        match body {
            Body::Data { payload, .. } => self.data(&stream_id, payload),
            Body::Reset(_) => self.reset(&stream_id),
            Body::Ack(ack) => self.acked(&stream_id, ack),
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
        let stream = match self.ids.get(stream_id) {
            Some(stream) => *stream,
            None => match self.open(stream_id) {
                Some(stream) => stream,
                None => return,
            },
        };
        if self.streams.get(&stream).is_some_and(|stream| !stream.ending) {
            self.events.push_back(Event::Message { stream, message });
        }
    }

    fn open(&mut self, stream_id: &str) -> Option<StreamKey> {
        if self.streams.len() >= self.limits.streams {
            tracing::warn!(limit = self.limits.streams, "frame dropped: there are too many streams");
            return None;
        }
        self.last_key += 1;
        let key = StreamKey(self.last_key);
        let id = StreamId::from(stream_id);
        self.ids.insert(id.clone(), key);
        let stream = Stream { id: id.clone(), sent: 0, queue: Queue::default(), ending: false };
        self.streams.insert(key, stream);
        self.events.push_back(Event::Opened { stream: key, id });
        Some(key)
    }

    fn acked(&mut self, stream_id: &str, ack: u32) {
        let Some(key) = self.ids.get(stream_id).copied() else { return };
        let frames = self.sent(key).map_or(0, |(_, sent)| acked(sent, ack));
        if frames > 0 {
            self.events.push_back(Event::Acked { stream: key, frames });
        }
    }

    pub(super) fn sent(&self, key: StreamKey) -> Option<(&StreamId, u64)> {
        let stream = self.streams.get(&key).filter(|stream| !stream.ending)?;
        Some((&stream.id, stream.sent))
    }

    fn reset(&mut self, stream_id: &str) {
        self.dead.retain(|id| id.as_str() != stream_id);
        let Some(key) = self.ids.get(stream_id).copied() else { return };
        if self.remove(key).is_some_and(|stream| !stream.ending) {
            self.events.push_back(Event::Closed { stream: key });
        }
    }

    fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        let stream = self.streams.remove(&key)?;
        self.ids.remove(&stream.id);
        self.turns.leave(key);
        Some(stream)
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn has_room(&self, key: StreamKey) -> bool {
        self.streams
            .get(&key)
            .is_some_and(|stream| !stream.ending && stream.queue.has_room(self.limits.queued_bytes))
    }

    pub(super) fn send(&mut self, key: StreamKey, message: Bytes) -> Result<(), SendError> {
        let limit = self.limits.plain_message_bytes;
        if message.len() > limit {
            return Err(SendError::TooLong { bytes: message.len(), limit });
        }
        let stream = self.streams.get_mut(&key).filter(|stream| !stream.ending).ok_or(SendError::Ended)?;
        if message.is_empty() {
            return Ok(());
        }
        let waits = !stream.queue.is_empty();
        stream.queue.push(message, self.limits.queued_bytes)?;
        if !waits {
            self.turns.join(key);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.ending = true;
        if stream.queue.is_empty() {
            self.bury(key);
        }
    }

    /// Nothing is sent of its end; the next frame on its id is lost, the one after opens a new connection (4.2).
    fn bury(&mut self, key: StreamKey) {
        let Some(stream) = self.remove(key) else { return };
        if self.dead.len() >= self.limits.streams {
            self.dead.pop_front();
        }
        self.dead.push_back(stream.id);
    }

    pub(super) fn has_transmit(&self) -> bool {
        !self.turns.is_empty()
    }

    pub(super) fn next_transmit(&mut self) -> Option<Bytes> {
        let key = self.turns.next()?;
        let stream = self.streams.get_mut(&key)?;
        let message = stream.queue.pop()?;
        let frame = frame::data(stream.id.as_str(), stream.sent as u32, &message);
        stream.sent += 1;
        let ends = stream.ending && stream.queue.is_empty();
        if stream.queue.room_again(self.limits.queued_bytes) && !stream.ending {
            self.events.push_back(Event::Room { stream: key });
        }
        if !stream.queue.is_empty() {
            self.turns.join(key);
        }
        if ends {
            self.bury(key);
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests;
