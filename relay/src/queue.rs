//! What the streams of one websocket have to send: a bounded queue for each, and fair turns.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::stream_id::StreamKey;

/// Why a message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The stream has ended; its `Closed` event is there or was taken.
    #[error("the stream has ended")]
    Ended,
    /// The stream's queue is full; the message comes back, [`crate::RelayEvent::Room`] follows.
    #[error("the stream's queue is full; wait for room")]
    Full(Bytes),
    /// Longer than any receiver takes.
    #[error("a message of {bytes} bytes is longer than the {limit} that a relay carries; send it in parts")]
    TooLong {
        /// The length of the message, in bytes.
        bytes: usize,
        /// The longest message that is taken, in bytes.
        limit: usize,
    },
}

/// The messages of one stream that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// It was full; the sender waits for room.
    full: bool,
}

impl Queue {
    /// Whether another message is taken.
    pub(crate) fn has_room(&self, bound: usize) -> bool {
        self.bytes < bound
    }

    /// Takes a message if there is room.
    pub(crate) fn push(&mut self, message: Bytes, bound: usize) -> Result<(), SendError> {
        if !self.has_room(bound) {
            self.full = true;
            return Err(SendError::Full(message));
        }
        self.bytes += message.len();
        self.messages.push_back(message);
        self.full |= !self.has_room(bound);
        Ok(())
    }

    /// The message to be sent next.
    pub(crate) fn front(&self) -> Option<&Bytes> {
        self.messages.front()
    }

    /// The front is sent.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }

    /// Whether a full queue is down to half its bound; says so once.
    pub(crate) fn room_again(&mut self, bound: usize) -> bool {
        let again = self.full && self.bytes <= bound / 2;
        self.full &= !again;
        again
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// Whose turn it is. A stream is in the round at most once.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    round: VecDeque<StreamKey>,
}

impl Turns {
    /// Puts a stream at the end of the round; only for one that is not in it.
    pub(crate) fn join(&mut self, stream: StreamKey) {
        self.round.push_back(stream);
    }

    /// Takes the stream whose turn it is out of the round.
    pub(crate) fn next(&mut self) -> Option<StreamKey> {
        self.round.pop_front()
    }

    /// Whether no stream waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_empty()
    }

    /// Takes a stream out of the round, wherever it is.
    pub(crate) fn leave(&mut self, stream: StreamKey) {
        self.round.retain(|waiting| *waiting != stream);
    }
}
