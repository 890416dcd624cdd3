//! The executor's end of one websocket, whatever protects its streams.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::event::{RelayEvent, Verdict};
use crate::frame;
use crate::limits::RelayLimits;
use crate::noise::Identity;
use crate::noise_streams::NoiseStreams;
use crate::plain_streams::PlainStreams;
use crate::queue::SendError;
use crate::stream_id::StreamKey;

/// The executor's end of one websocket: every stream on it, plain or Noise.
#[derive(Debug)]
pub struct ExecutorStreams(Kind);

#[derive(Debug)]
enum Kind {
    Plain(Box<PlainStreams>),
    Noise(Box<NoiseStreams>),
}

macro_rules! both {
    ($self:ident, $streams:ident => $call:expr) => {
        match &mut $self.0 {
            Kind::Plain($streams) => $call,
            Kind::Noise($streams) => $call,
        }
    };
}

impl ExecutorStreams {
    /// Contracts C, C' and D (section 4).
    pub fn plain(limits: RelayLimits) -> Self {
        Self(Kind::Plain(Box::new(PlainStreams::new(limits))))
    }

    /// Contract E (section 8), for one registration of this identity.
    pub fn noise(
        identity: Arc<Identity>,
        environment_id: &str,
        registration_id: &str,
        limits: RelayLimits,
    ) -> Self {
        Self(Kind::Noise(Box::new(NoiseStreams::new(
            identity,
            environment_id.to_owned(),
            registration_id.to_owned(),
            limits,
        ))))
    }

    /// Takes one binary message of the websocket. Text messages are not for the relay: drop them.
    pub fn receive(&mut self, now: Instant, message: Bytes) {
        both!(self, streams => streams.receive(now, message));
    }

    /// What to act on next; to be asked until there is nothing, after every other call.
    pub fn next_event(&mut self) -> Option<RelayEvent> {
        both!(self, streams => streams.open.next_event())
    }

    /// The registry's word on a handshake; one that is not wanted any more is ignored.
    pub fn validated(&mut self, now: Instant, stream: StreamKey, verdict: Verdict) {
        match &mut self.0 {
            Kind::Plain(_) => {}
            Kind::Noise(streams) => streams.validated(now, stream, verdict),
        }
    }

    /// Whether the stream's queue takes another message.
    pub fn has_room(&self, stream: StreamKey) -> bool {
        match &self.0 {
            Kind::Plain(streams) => streams.open.has_room(stream),
            Kind::Noise(streams) => streams.open.has_room(stream),
        }
    }

    /// Queues one JSON-RPC message. A queue with room takes one of any length.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&mut self, stream: StreamKey, message: Bytes) -> Result<(), SendError> {
        both!(self, streams => streams.open.send(stream, message))
    }

    /// How many data frames of the stream were given to the websocket, and the frame that asks its harness how many of
    /// them it has taken ([`RelayEvent::Acked`]; released harnesses say nothing).
    pub fn ask(&self, stream: StreamKey) -> Option<(u64, Bytes)> {
        let (id, frames) = match &self.0 {
            Kind::Plain(streams) => streams.open.sent(stream),
            Kind::Noise(streams) => streams.open.sent(stream),
        }?;
        Some((frames, frame::heartbeat(id.as_str())))
    }

    /// The stream's JSON-RPC connection has ended here: what is queued still goes, then the stream ends in its
    /// contract's way (4.2, 8). No `Closed` event follows.
    pub fn close(&mut self, stream: StreamKey) {
        both!(self, streams => streams.close(stream));
    }

    /// The frames that tell every harness that this executor is stopped; a plain relay has no such word (4.2).
    pub fn goodbye(&self) -> Vec<Bytes> {
        match &self.0 {
            Kind::Plain(_) => Vec::new(),
            Kind::Noise(streams) => streams.goodbye(),
        }
    }

    /// Whether [`Self::next_transmit`] would give a frame.
    pub fn has_transmit(&self) -> bool {
        match &self.0 {
            Kind::Plain(streams) => streams.has_transmit(),
            Kind::Noise(streams) => streams.has_transmit(),
        }
    }

    /// The next binary message for the websocket. Ask only when the socket takes one: what is not asked for keeps
    /// its place in the streams' own queues.
    pub fn next_transmit(&mut self) -> Option<Bytes> {
        both!(self, streams => streams.next_transmit())
    }
}
