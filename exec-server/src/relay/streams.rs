//! The executor's streams of a Noise relay (section 8): no I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::frame::{self, Body, Frame};
use super::noise::{self, Accepted, Channel, NoiseError, Parties};
use super::queue::{Queue, Turns};
use super::{Event, Handshake, Identity, RelayLimits, SendError, StreamId, StreamKey, Verdict, acked, json};

/// The reason of every reset that a released executor sends.
const PROTOCOL_ERROR: &str = "noise_relay_protocol_error";

/// All streams of one websocket.
#[derive(Debug)]
pub(super) struct NoiseStreams {
    identity: Arc<Identity>,
    environment_id: String,
    registration_id: String,
    limits: RelayLimits,
    ids: HashMap<StreamId, StreamKey>,
    pending: HashMap<StreamKey, Pending>,
    open: HashMap<StreamKey, Stream>,
    last_key: u64,
    failures: Failures,
    /// Bytes of incomplete messages over all streams.
    assembled: usize,
    /// Resets and handshake answers; they go before data.
    control: VecDeque<Bytes>,
    turns: Turns,
    events: VecDeque<Event>,
}

/// A handshake that waits for the registry.
#[derive(Debug)]
struct Pending {
    id: StreamId,
    accepted: Accepted,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    channel: Channel,
    queue: Queue,
    /// Ended here; it lives until its queue is empty, and takes no more messages.
    ending: bool,
}

/// Counts failed handshakes over the life of the websocket.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    paused_until: Option<Instant>,
}

impl Failures {
    fn add(&mut self, now: Instant, limits: &RelayLimits) {
        self.count += 1;
        if self.count >= limits.failures {
            self.count = 0;
            self.paused_until = Some(now + limits.failure_pause);
            tracing::warn!(pause = ?limits.failure_pause, "too many failed handshakes: all are refused for a while");
        }
    }

    fn paused(&mut self, now: Instant) -> bool {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.paused_until.is_some()
    }
}

impl NoiseStreams {
    pub(super) fn new(
        identity: Arc<Identity>,
        environment_id: String,
        registration_id: String,
        limits: RelayLimits,
    ) -> Self {
        Self {
            identity,
            environment_id,
            registration_id,
            limits,
            ids: HashMap::new(),
            pending: HashMap::new(),
            open: HashMap::new(),
            last_key: 0,
            failures: Failures::default(),
            assembled: 0,
            control: VecDeque::new(),
            turns: Turns::default(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn receive(&mut self, now: Instant, message: Bytes) {
        let Frame { stream_id, body } = match frame::parse(message, self.limits.stream_id_bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "frame dropped");
                return;
            }
        };
        match body {
            Body::Handshake(message) => self.handshake(now, &stream_id, &message),
            Body::Data { seq, payload } => self.data(now, &stream_id, seq, payload),
            Body::Reset(reason) => self.reset_received(now, &stream_id, &reason),
            Body::Ack(ack) => self.acked(&stream_id, ack),
            Body::Heartbeat | Body::Idle => {}
        }
    }

    fn handshake(&mut self, now: Instant, stream_id: &str, message: &[u8]) {
        if let Some(key) = self.ids.get(stream_id).copied() {
            // An open stream is not harmed; a pending handshake is dropped.
            self.drop_pending(now, key);
            return self.reset(stream_id);
        }
        // A peer that does not read its answers gets no more of them.
        let unread = self.control.len() >= self.limits.queued_control;
        let full =
            unread || self.pending.len() >= self.limits.handshakes || self.open.len() >= self.limits.streams;
        if full || self.failures.paused(now) {
            tracing::info!(stream_id, full, "handshake refused");
            return self.reset(stream_id);
        }
        let parties = Parties {
            environment_id: &self.environment_id,
            registration_id: &self.registration_id,
            stream_id,
        };
        match noise::accept(&self.identity, &parties, message) {
            Ok(accepted) => self.ask(stream_id, accepted),
            Err(error) => self.handshake_failed(now, stream_id, &error),
        }
    }

    fn ask(&mut self, stream_id: &str, accepted: Accepted) {
        self.last_key += 1;
        let stream = StreamKey(self.last_key);
        let id = StreamId::from(stream_id);
        self.events.push_back(Event::Validate(Handshake {
            stream,
            id: id.clone(),
            harness_public_key: accepted.harness.clone(),
            authorization: accepted.authorization.clone(),
        }));
        self.ids.insert(id.clone(), stream);
        self.pending.insert(stream, Pending { id, accepted });
    }

    fn handshake_failed(&mut self, now: Instant, stream_id: &str, error: &NoiseError) {
        tracing::info!(stream_id, %error, "handshake refused");
        self.failures.add(now, &self.limits);
        self.reset(stream_id);
    }

    fn drop_pending(&mut self, now: Instant, key: StreamKey) -> bool {
        let Some(pending) = self.pending.remove(&key) else { return false };
        self.ids.remove(&pending.id);
        self.failures.add(now, &self.limits);
        self.events.push_back(Event::Closed { stream: key });
        true
    }

    pub(super) fn validated(&mut self, now: Instant, key: StreamKey, verdict: Verdict) {
        let Some(Pending { id, accepted }) = self.pending.remove(&key) else { return };
        self.ids.remove(&id);
        match verdict {
            Verdict::Valid if self.open.len() >= self.limits.streams => {
                tracing::info!(stream_id = %id, "handshake refused: there are too many streams");
                self.reset(id.as_str());
            }
            Verdict::Valid => match accepted.admit() {
                Ok((answer, channel)) => self.admit(key, id, answer, channel),
                Err(error) => self.handshake_failed(now, id.as_str(), &error),
            },
            Verdict::Invalid => {
                tracing::info!(stream_id = %id, "handshake refused by the registry");
                self.failures.add(now, &self.limits);
                self.reset(id.as_str());
            }
            Verdict::CredentialRefused => match accepted.refuse_credential() {
                Ok(answer) => {
                    self.failures.add(now, &self.limits);
                    self.control.push_back(frame::handshake(id.as_str(), answer));
                }
                Err(error) => self.handshake_failed(now, id.as_str(), &error),
            },
        }
    }

    fn admit(&mut self, key: StreamKey, id: StreamId, answer: Bytes, channel: Channel) {
        self.control.push_back(frame::handshake(id.as_str(), answer));
        self.ids.insert(id.clone(), key);
        let stream = Stream { id: id.clone(), channel, queue: Queue::default(), ending: false };
        self.open.insert(key, stream);
        self.events.push_back(Event::Opened { stream: key, id });
    }

    fn data(&mut self, now: Instant, stream_id: &str, seq: u32, record: Bytes) {
        let Some(key) = self.ids.get(stream_id).copied() else { return self.reset(stream_id) };
        if self.drop_pending(now, key) {
            return self.reset(stream_id);
        }
        let Some(stream) = self.open.get_mut(&key) else { return };
        let before = stream.channel.receiver.assembled();
        let taken = take(stream, key, seq, record, &self.limits, &mut self.events);
        self.assembled = self.assembled - before + stream.channel.receiver.assembled();
        let limit = self.limits.assembled_bytes;
        let fits = if self.assembled > limit { Err(NoiseError::Assembled { limit }) } else { Ok(()) };
        if let Err(error) = taken.and(fits) {
            self.fail(key, &error);
        }
    }

    fn acked(&mut self, stream_id: &str, ack: u32) {
        let Some(key) = self.ids.get(stream_id).copied() else { return };
        if let Some(frames) = self.sent(key).and_then(|(_, sent)| acked(sent, ack)) {
            self.events.push_back(Event::Acked { stream: key, frames });
        }
    }

    pub(super) fn sent(&self, key: StreamKey) -> Option<(&StreamId, u64)> {
        let stream = self.open.get(&key).filter(|stream| !stream.ending)?;
        Some((&stream.id, stream.channel.sender.records()))
    }

    /// Ends an open stream for a fault of the peer or of ours.
    fn fail(&mut self, key: StreamKey, error: &NoiseError) {
        let Some(stream) = self.remove(key) else { return };
        tracing::info!(stream_id = %stream.id, %error, "stream closed");
        self.reset(stream.id.as_str());
        if !stream.ending {
            self.events.push_back(Event::Closed { stream: key });
        }
    }

    fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        let stream = self.open.remove(&key)?;
        self.assembled -= stream.channel.receiver.assembled();
        self.ids.remove(&stream.id);
        self.turns.leave(key);
        Some(stream)
    }

    fn reset_received(&mut self, now: Instant, stream_id: &str, reason: &str) {
        let Some(key) = self.ids.get(stream_id).copied() else { return };
        tracing::debug!(stream_id, reason, "stream reset by its harness");
        // A dropped handshake counts, whoever dropped it (section 8): it cost us the keys' work and a request.
        if self.drop_pending(now, key) {
            return;
        }
        if self.remove(key).is_some_and(|stream| !stream.ending) {
            self.events.push_back(Event::Closed { stream: key });
        }
    }

    fn reset(&mut self, stream_id: &str) {
        // A peer that makes faults faster than it reads is told of fewer.
        if self.control.len() < self.limits.queued_control {
            self.control.push_back(frame::reset(stream_id, PROTOCOL_ERROR));
        }
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn has_room(&self, key: StreamKey) -> bool {
        self.open
            .get(&key)
            .is_some_and(|stream| !stream.ending && stream.queue.has_room(self.limits.queued_bytes))
    }

    pub(super) fn send(&mut self, key: StreamKey, message: Bytes) -> Result<(), SendError> {
        let limit = self.limits.message_bytes;
        if message.len() > limit {
            return Err(SendError::TooLong { bytes: message.len(), limit });
        }
        let stream = self.open.get_mut(&key).filter(|stream| !stream.ending).ok_or(SendError::Ended)?;
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
        let Some(stream) = self.open.get_mut(&key) else { return };
        stream.ending = true;
        if stream.queue.is_empty() {
            self.finish(key);
        }
    }

    /// Everything is sent: the peer is told that the stream is over.
    fn finish(&mut self, key: StreamKey) {
        if let Some(stream) = self.remove(key) {
            self.reset(stream.id.as_str());
        }
    }

    pub(super) fn has_transmit(&self) -> bool {
        !self.control.is_empty() || !self.turns.is_empty()
    }

    pub(super) fn next_transmit(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.control.pop_front() {
                return Some(frame);
            }
            let key = self.turns.next()?;
            match self.next_record(key) {
                Ok(frame) => return Some(frame),
                Err(error) => self.fail(key, &error),
            }
        }
    }

    fn next_record(&mut self, key: StreamKey) -> Result<Bytes, NoiseError> {
        let stream = self.open.get_mut(&key).ok_or(NoiseError::Record)?;
        let message = stream.queue.front().ok_or(NoiseError::Record)?;
        let (frame, whole) = stream.channel.sender.frame(stream.id.as_str(), message)?;
        if whole {
            stream.queue.pop();
        }
        if stream.queue.room_again(self.limits.queued_bytes) && !stream.ending {
            self.events.push_back(Event::Room { stream: key });
        }
        let (empty, ending) = (stream.queue.is_empty(), stream.ending);
        if !empty {
            self.turns.join(key);
        } else if ending {
            self.finish(key);
        }
        Ok(frame)
    }
}

/// Passes a record through the channel and gives the messages that are whole with it.
fn take(
    stream: &mut Stream,
    key: StreamKey,
    seq: u32,
    record: Bytes,
    limits: &RelayLimits,
    events: &mut VecDeque<Event>,
) -> Result<(), NoiseError> {
    let receiver = &mut stream.channel.receiver;
    receiver.accept(seq, record, limits)?;
    while let Some(message) = receiver.next_message(limits)? {
        if !json::is_message(&message) {
            return Err(NoiseError::Message);
        }
        if !stream.ending {
            events.push_back(Event::Message { stream: key, message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
