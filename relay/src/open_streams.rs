//! The open streams of one websocket, whatever protects them: names, queues, fair turns, and what is to be told of them.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::event::RelayEvent;
use crate::queue::{Queue, SendError, Turns};
use crate::stream_id::{StreamId, StreamKey};

/// How a contract carries a stream.
pub(crate) trait Carrier {
    /// Data frames that were given to the websocket.
    fn frames(&self) -> u64;
}

/// A stream that is open, with what it needs to read and write frames.
#[derive(Debug)]
pub(crate) struct Stream<C> {
    pub(crate) id: StreamId,
    pub(crate) carrier: C,
    pub(crate) queue: Queue,
    /// Ended here; it lives until its queue is empty, and takes no more messages.
    pub(crate) ending: bool,
}

/// All open streams, found by name or by key.
#[derive(Debug)]
pub(crate) struct Open<C> {
    message_bytes: usize,
    queued_bytes: usize,
    ids: HashMap<StreamId, StreamKey>,
    streams: HashMap<StreamKey, Stream<C>>,
    last_key: u64,
    turns: Turns,
    events: VecDeque<RelayEvent>,
}

impl<C: Carrier> Open<C> {
    /// None yet. A message has at most `message_bytes`; a queue takes messages until it holds `queued_bytes`.
    pub(crate) fn new(message_bytes: usize, queued_bytes: usize) -> Self {
        Self {
            message_bytes,
            queued_bytes,
            ids: HashMap::new(),
            streams: HashMap::new(),
            last_key: 0,
            turns: Turns::default(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The names of the open ones.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &StreamId> {
        self.streams.values().map(|stream| &stream.id)
    }

    /// Gives a name to a stream, open or about to be.
    pub(crate) fn claim(&mut self, id: &StreamId) -> StreamKey {
        self.last_key += 1;
        let key = StreamKey(self.last_key);
        self.ids.insert(id.clone(), key);
        key
    }

    /// Takes the name from it.
    pub(crate) fn release(&mut self, id: &str) -> Option<StreamKey> {
        self.ids.remove(id)
    }

    /// The stream with this name.
    pub(crate) fn key(&self, id: &str) -> Option<StreamKey> {
        self.ids.get(id).copied()
    }

    /// Opens the stream that has claimed its name.
    pub(crate) fn insert(&mut self, key: StreamKey, id: StreamId, carrier: C) {
        self.ids.insert(id.clone(), key);
        let stream = Stream { id: id.clone(), carrier, queue: Queue::default(), ending: false };
        self.streams.insert(key, stream);
        self.tell(RelayEvent::Opened { stream: key, id });
    }

    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream<C>> {
        self.streams.get_mut(&key)
    }

    fn lasting(&self, key: StreamKey) -> Option<&Stream<C>> {
        self.streams.get(&key).filter(|stream| !stream.ending)
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<Stream<C>> {
        let stream = self.streams.remove(&key)?;
        self.ids.remove(&stream.id);
        self.turns.leave(key);
        Some(stream)
    }

    pub(crate) fn tell(&mut self, event: RelayEvent) {
        self.events.push_back(event);
    }

    pub(crate) fn next_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// Passes a message on, unless the stream has ended here.
    pub(crate) fn deliver(&mut self, key: StreamKey, message: Bytes) {
        if self.lasting(key).is_some() {
            self.tell(RelayEvent::Message { stream: key, message });
        }
    }

    /// A harness says how many frames it has taken.
    pub(crate) fn acked(&mut self, id: &str, ack: u32) {
        let Some(key) = self.key(id) else { return };
        if let Some(frames) = self.sent(key).and_then(|(_, sent)| acked(sent, ack)) {
            self.tell(RelayEvent::Acked { stream: key, frames });
        }
    }

    pub(crate) fn sent(&self, key: StreamKey) -> Option<(&StreamId, u64)> {
        self.lasting(key).map(|stream| (&stream.id, stream.carrier.frames()))
    }

    pub(crate) fn has_room(&self, key: StreamKey) -> bool {
        self.lasting(key).is_some_and(|stream| stream.queue.has_room(self.queued_bytes))
    }

    pub(crate) fn send(&mut self, key: StreamKey, message: Bytes) -> Result<(), SendError> {
        let limit = self.message_bytes;
        if message.len() > limit {
            return Err(SendError::TooLong { bytes: message.len(), limit });
        }
        let stream = self.streams.get_mut(&key).filter(|stream| !stream.ending).ok_or(SendError::Ended)?;
        if message.is_empty() {
            return Ok(());
        }
        let waits = !stream.queue.is_empty();
        stream.queue.push(message, self.queued_bytes)?;
        if !waits {
            self.turns.join(key);
        }
        Ok(())
    }

    /// Takes no more messages. Whether nothing is left to send.
    pub(crate) fn end(&mut self, key: StreamKey) -> bool {
        self.streams.get_mut(&key).is_some_and(|stream| {
            stream.ending = true;
            stream.queue.is_empty()
        })
    }

    pub(crate) fn has_turn(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The stream that may send a frame; to be followed by [`Self::turned`], or by its removal.
    pub(crate) fn turn(&mut self) -> Option<StreamKey> {
        self.turns.next()
    }

    /// A stream has sent its frame. Whether that was its last.
    pub(crate) fn turned(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(&key) else { return false };
        let (empty, ending) = (stream.queue.is_empty(), stream.ending);
        if stream.queue.room_again(self.queued_bytes) && !ending {
            self.tell(RelayEvent::Room { stream: key });
        }
        if !empty {
            self.turns.join(key);
        }
        empty && ending
    }
}

/// Which of `sent` frames the lower half of a number names, if any. Before the first was sent every ack is good: it
/// tells that its harness acks.
fn acked(sent: u64, ack: u32) -> Option<u64> {
    let behind = (sent.wrapping_sub(1) as u32).wrapping_sub(ack);
    let frames = sent.saturating_sub(behind.into());
    (sent == 0 || frames > 0).then_some(frames)
}

#[cfg(test)]
mod tests {
    use super::acked;

    #[test]
    fn an_ack_names_a_frame_that_was_sent_or_none() {
        let wrapped = (1 << 32) + 3;
        for (sent, ack, frames) in [
            (0, 0, Some(0)),
            (0, 7, Some(0)),
            (1, 0, Some(1)),
            (5, 2, Some(3)),
            (5, 4, Some(5)),
            (5, 5, None),
            (wrapped, 2, Some(wrapped)),
            (wrapped, u32::MAX, Some(1 << 32)),
        ] {
            assert_eq!(acked(sent, ack), frames, "{ack} of {sent}");
        }
    }
}
