//! The executor's streams of a Noise relay (section 8): no I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use codex_exec_protocol::registry::PublicKey;

use crate::event::{Handshake, RelayEvent, Verdict};
use crate::failures::Failures;
use crate::frame::{self, Body, Frame};
use crate::json;
use crate::limits::RelayLimits;
use crate::noise::{self, Accepted, Channel, Identity, NoiseError, Parties};
use crate::open_streams::{Carrier, Open, Stream};
use crate::stream_id::{StreamId, StreamKey};

/// The reason of every reset that a released executor sends.
const PROTOCOL_ERROR: &str = "noise_relay_protocol_error";

/// All streams of one websocket.
#[derive(Debug)]
pub(crate) struct NoiseStreams {
    identity: Arc<Identity>,
    environment_id: String,
    registration_id: String,
    limits: RelayLimits,
    pub(crate) open: Open<Channel>,
    pending: HashMap<StreamKey, Pending>,
    failures: Failures,
    /// Bytes of incomplete messages over all streams.
    assembled: usize,
    /// Resets and handshake answers; they go before data.
    control: VecDeque<Bytes>,
}

/// A handshake that waits for the registry.
#[derive(Debug)]
struct Pending {
    id: StreamId,
    accepted: Accepted,
}

impl Carrier for Channel {
    fn frames(&self) -> u64 {
        self.sender.records()
    }
}

impl NoiseStreams {
    pub(crate) fn new(
        identity: Arc<Identity>,
        environment_id: String,
        registration_id: String,
        limits: RelayLimits,
    ) -> Self {
        Self {
            identity,
            environment_id,
            registration_id,
            open: Open::new(limits.message_bytes, limits.queued_bytes),
            limits,
            pending: HashMap::new(),
            failures: Failures::default(),
            assembled: 0,
            control: VecDeque::new(),
        }
    }

    pub(crate) fn receive(&mut self, now: Instant, message: Bytes) {
        let Some(Frame { stream_id, body }) = frame::parse_or_drop(message, self.limits.stream_id_bytes)
        else {
            return;
        };
        match body {
            Body::Handshake(message) => self.handshake(now, &stream_id, &message),
            Body::Data { seq, payload } => self.data(now, &stream_id, seq, payload),
            Body::Reset(reason) => self.reset_received(now, &stream_id, &reason),
            Body::Ack(ack) => self.open.acked(&stream_id, ack),
            Body::Heartbeat | Body::Idle => {}
        }
    }

    fn handshake(&mut self, now: Instant, stream_id: &str, message: &[u8]) {
        if let Some(key) = self.open.key(stream_id) {
            // An open stream is not harmed; a pending handshake is dropped.
            self.drop_pending(now, key);
            return self.reset(stream_id);
        }
        // A peer that does not read its answers gets no more of them.
        let unread = self.control.len() >= self.limits.queued_control;
        if unread || self.open.len() >= self.limits.streams {
            tracing::info!(stream_id, "handshake refused: too many streams are open, or resets unread");
            return self.reset(stream_id);
        }
        let parties = Parties {
            environment_id: &self.environment_id,
            registration_id: &self.registration_id,
            stream_id,
        };
        match noise::accept(&self.identity, &parties, message) {
            Ok(accepted) if self.failures.paused(&accepted.harness, now) => {
                tracing::info!(stream_id, "handshake refused: too many of this harness failed");
                self.reset(stream_id);
            }
            Ok(accepted) if !self.has_place(&accepted.harness) => {
                tracing::info!(stream_id, "handshake refused: too many wait for the registry");
                self.reset(stream_id);
            }
            Ok(accepted) => self.ask(stream_id, accepted),
            Err(error) => self.handshake_failed(stream_id, &error),
        }
    }

    /// Whether one more handshake of this harness may wait for the registry. Where all places are taken, the harness with
    /// the most gives up its newest, unless the newcomer would then have as many.
    fn has_place(&mut self, newcomer: &PublicKey) -> bool {
        if self.pending.len() < self.limits.handshakes {
            return true;
        }
        let mut waiting: HashMap<_, Vec<StreamKey>> = HashMap::new();
        for (key, Pending { accepted, .. }) in &self.pending {
            waiting.entry(accepted.harness.x25519).or_default().push(*key);
        }
        let own = waiting.get(&newcomer.x25519).map_or(0, Vec::len);
        let crowd = waiting.into_values().max_by_key(Vec::len).filter(|crowd| crowd.len() > own + 1);
        let Some(given_up) = crowd.into_iter().flatten().max() else { return false };
        if let Some(Pending { id, .. }) = self.pending.remove(&given_up) {
            tracing::info!(stream_id = %id, "handshake refused: its harness has the most that wait, and another came");
            self.open.release(id.as_str());
            self.open.tell(RelayEvent::Closed { stream: given_up });
            self.reset(id.as_str());
        }
        true
    }

    fn ask(&mut self, stream_id: &str, accepted: Accepted) {
        let id = StreamId::from(stream_id);
        let stream = self.open.claim(&id);
        self.open.tell(RelayEvent::Validate(Handshake {
            stream,
            id: id.clone(),
            harness_public_key: accepted.harness.clone(),
            authorization: accepted.authorization.clone(),
        }));
        self.pending.insert(stream, Pending { id, accepted });
    }

    fn handshake_failed(&mut self, stream_id: &str, error: &NoiseError) {
        tracing::info!(stream_id, %error, "handshake refused");
        self.reset(stream_id);
    }

    fn drop_pending(&mut self, now: Instant, key: StreamKey) -> bool {
        let Some(pending) = self.pending.remove(&key) else { return false };
        self.open.release(pending.id.as_str());
        self.failures.add(&pending.accepted.harness, now, &self.limits);
        self.open.tell(RelayEvent::Closed { stream: key });
        true
    }

    pub(crate) fn validated(&mut self, now: Instant, key: StreamKey, verdict: Verdict) {
        let Some(Pending { id, accepted }) = self.pending.remove(&key) else { return };
        self.open.release(id.as_str());
        match verdict {
            Verdict::Valid if self.open.len() >= self.limits.streams => {
                tracing::info!(stream_id = %id, "handshake refused: there are too many streams");
                self.reset(id.as_str());
            }
            Verdict::Valid => match accepted.admit() {
                Ok((answer, channel)) => self.admit(key, id, answer, channel),
                Err(error) => self.handshake_failed(id.as_str(), &error),
            },
            Verdict::Invalid => {
                tracing::info!(stream_id = %id, "handshake refused by the registry");
                self.failures.add(&accepted.harness, now, &self.limits);
                self.reset(id.as_str());
            }
            // Our own credential is at fault, and no harness.
            Verdict::CredentialRefused => match accepted.refuse_credential() {
                Ok(answer) => {
                    self.control.push_back(frame::handshake(id.as_str(), answer));
                }
                Err(error) => self.handshake_failed(id.as_str(), &error),
            },
        }
    }

    fn admit(&mut self, key: StreamKey, id: StreamId, answer: Bytes, channel: Channel) {
        self.control.push_back(frame::handshake(id.as_str(), answer));
        self.open.insert(key, id, channel);
    }

    fn data(&mut self, now: Instant, stream_id: &str, seq: u32, record: Bytes) {
        let Some(key) = self.open.key(stream_id) else { return self.reset(stream_id) };
        if self.drop_pending(now, key) {
            return self.reset(stream_id);
        }
        let Some(stream) = self.open.get_mut(key) else { return };
        let before = stream.carrier.receiver.assembled();
        let (messages, taken) = take(&mut stream.carrier, seq, record, &self.limits);
        self.assembled = self.assembled - before + stream.carrier.receiver.assembled();
        for message in messages {
            self.open.deliver(key, message);
        }
        let limit = self.limits.assembled_bytes;
        let fits = if self.assembled > limit { Err(NoiseError::Assembled { limit }) } else { Ok(()) };
        if let Err(error) = taken.and(fits) {
            self.fail(key, &error);
        }
    }

    /// Ends an open stream for a fault of the peer or of ours.
    fn fail(&mut self, key: StreamKey, error: &NoiseError) {
        let Some(stream) = self.remove(key) else { return };
        tracing::info!(stream_id = %stream.id, %error, "stream closed");
        self.reset(stream.id.as_str());
        if !stream.ending {
            self.open.tell(RelayEvent::Closed { stream: key });
        }
    }

    fn remove(&mut self, key: StreamKey) -> Option<Stream<Channel>> {
        let stream = self.open.remove(key)?;
        self.assembled -= stream.carrier.receiver.assembled();
        Some(stream)
    }

    fn reset_received(&mut self, now: Instant, stream_id: &str, reason: &str) {
        let Some(key) = self.open.key(stream_id) else { return };
        tracing::debug!(stream_id, reason, "stream reset by its harness");
        // A dropped handshake counts, whoever dropped it (section 8): it cost us the keys' work and a request.
        if self.drop_pending(now, key) {
            return;
        }
        if self.remove(key).is_some_and(|stream| !stream.ending) {
            self.open.tell(RelayEvent::Closed { stream: key });
        }
    }

    fn reset(&mut self, stream_id: &str) {
        // A peer that makes faults faster than it reads is told of fewer.
        if self.control.len() < self.limits.queued_control {
            self.control.push_back(frame::reset(stream_id, PROTOCOL_ERROR));
        }
    }

    pub(crate) fn goodbye(&self) -> Vec<Bytes> {
        self.open.ids().map(|id| frame::reset(id.as_str(), frame::EXECUTOR_STOPPED)).collect()
    }

    pub(crate) fn close(&mut self, key: StreamKey) {
        if self.open.end(key) {
            self.finish(key);
        }
    }

    /// Everything is sent: the peer is told that the stream is over.
    fn finish(&mut self, key: StreamKey) {
        if let Some(stream) = self.remove(key) {
            self.reset(stream.id.as_str());
        }
    }

    pub(crate) fn has_transmit(&self) -> bool {
        !self.control.is_empty() || self.open.has_turn()
    }

    pub(crate) fn next_transmit(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.control.pop_front() {
                return Some(frame);
            }
            let key = self.open.turn()?;
            match self.next_record(key) {
                Ok(frame) => return Some(frame),
                Err(error) => self.fail(key, &error),
            }
        }
    }

    fn next_record(&mut self, key: StreamKey) -> Result<Bytes, NoiseError> {
        let stream = self.open.get_mut(key).ok_or(NoiseError::Record)?;
        let message = stream.queue.front().ok_or(NoiseError::Record)?;
        let (frame, whole) = stream.carrier.sender.frame(stream.id.as_str(), message)?;
        if whole {
            stream.queue.pop();
        }
        if self.open.turned(key) {
            self.finish(key);
        }
        Ok(frame)
    }
}

/// Passes a record through the channel; the messages that are whole with it.
fn take(
    channel: &mut Channel,
    seq: u32,
    record: Bytes,
    limits: &RelayLimits,
) -> (Vec<Bytes>, Result<(), NoiseError>) {
    let mut messages = Vec::new();
    let receiver = &mut channel.receiver;
    let mut taken = receiver.accept(seq, record, limits);
    while taken.is_ok() {
        match receiver.next_message(limits) {
            Ok(Some(message)) if json::is_message(&message) => messages.push(message),
            Ok(Some(_)) => taken = Err(NoiseError::Message),
            Ok(None) => break,
            Err(error) => taken = Err(error),
        }
    }
    (messages, taken)
}

#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
