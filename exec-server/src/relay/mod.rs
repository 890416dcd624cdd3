//! The relay (`remote.md` sections 4, 7, 8 and 9): frames, virtual streams, their state machines, the encrypted channel.
//!
//! Nothing here does I/O or knows a clock: a machine is handed the websocket's messages and the time, gives
//! [`Event`]s to act on, and is asked for the next frame whenever the socket takes one. So the streams have fair
//! turns: a frame of each stream that has something to send, then the next of the first, whatever their sizes.

pub mod frame;
mod harness;
mod json;
mod limits;
mod noise;
mod open;
mod plain;
mod queue;
mod streams;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use codex_exec_protocol::registry::{Hidden, PublicKey};

pub use harness::{HarnessError, HarnessStream, Target};
pub use limits::RelayLimits;
pub use noise::{Identity, NoiseError};

/// The reason of the reset by which an executor that is stopped takes leave of each harness: its programs end with it, so
/// there is nothing to come back to. Released harnesses take it as any other reset.
pub(crate) const EXECUTOR_STOPPED: &str = "executor_stopped";

/// The name of a stream on the wire: any text that is not blank.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// A fresh random UUID, as harnesses choose it.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StreamId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a stream. An id may be used again and then has another key, so what comes late for the former life
/// can't hit the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(u64);

/// What the executor's side has to act on.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Noise: the registry is to be asked (6.3); the answer goes to [`ExecutorStreams::validated`].
    Validate(Handshake),
    /// A new JSON-RPC connection.
    Opened {
        /// Its key from now on.
        stream: StreamKey,
        /// Its name, for logs.
        id: StreamId,
    },
    /// One JSON-RPC message for an opened stream.
    Message {
        /// To whom.
        stream: StreamKey,
        /// UTF-8, one JSON object.
        message: Bytes,
    },
    /// A stream that had no room for more messages has it again.
    Room {
        /// Which one.
        stream: StreamKey,
    },
    /// The harness has taken every data frame up to this one, which counts from 1; with 0 it says that it acks.
    Acked {
        /// Which stream.
        stream: StreamKey,
        /// The frame.
        frames: u64,
    },
    /// A stream ended from the other side, or a handshake is not wanted any more: end its connection, or stop asking.
    Closed {
        /// Which one; its key means nothing from now on.
        stream: StreamKey,
    },
}

/// A handshake that waits for the registry's word.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The key under which the stream will be opened.
    pub stream: StreamKey,
    /// Its name.
    pub id: StreamId,
    /// Who shakes hands; proved by the handshake.
    pub harness_public_key: PublicKey,
    /// What it brought.
    pub authorization: Hidden,
}

/// What the registry said of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `{"valid":true}`.
    Valid,
    /// Anything else, no answer included.
    Invalid,
    /// 401: our own credential was refused; the harness is told so (section 7).
    CredentialRefused,
}

/// Why a message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The stream has ended; its `Closed` event is there or was taken.
    #[error("the stream has ended")]
    Ended,
    /// The stream's queue is full; the message comes back, [`Event::Room`] follows.
    #[error("the stream's queue is full; wait for room")]
    Full(Bytes),
    /// Longer than any receiver takes.
    #[error("a message of {bytes} bytes is longer than the {limit} that a relay carries; send it in parts")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

/// The executor's end of one websocket: every stream on it, plain or Noise.
#[derive(Debug)]
pub struct ExecutorStreams(Kind);

#[derive(Debug)]
enum Kind {
    Plain(Box<plain::PlainStreams>),
    Noise(Box<streams::NoiseStreams>),
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
        Self(Kind::Plain(Box::new(plain::PlainStreams::new(limits))))
    }

    /// Contract E (section 8), for one registration of this identity.
    pub fn noise(
        identity: Arc<Identity>,
        environment_id: &str,
        registration_id: &str,
        limits: RelayLimits,
    ) -> Self {
        Self(Kind::Noise(Box::new(streams::NoiseStreams::new(
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
    pub fn next_event(&mut self) -> Option<Event> {
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
    /// them it has taken ([`Event::Acked`]; released harnesses say nothing).
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
