//! What the streams of one websocket have to send: a bounded queue for each, and fair turns.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{SendError, StreamKey};

/// The messages of one stream that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// It was full; the sender waits for room.
    full: bool,
}

impl Queue {
    /// Whether another message is taken.
    pub(super) fn has_room(&self, bound: usize) -> bool {
        self.bytes < bound
    }

    /// Takes a message if there is room.
    pub(super) fn push(&mut self, message: Bytes, bound: usize) -> Result<(), SendError> {
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
    pub(super) fn front(&self) -> Option<&Bytes> {
        self.messages.front()
    }

    /// The front is sent.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }

    /// Whether a full queue is down to half its bound; says so once.
    pub(super) fn room_again(&mut self, bound: usize) -> bool {
        let again = self.full && self.bytes <= bound / 2;
        self.full &= !again;
        again
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// Whose turn it is. A stream is in the round at most once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    round: VecDeque<StreamKey>,
}

impl Turns {
    /// Puts a stream at the end of the round; only for one that is not in it.
    pub(super) fn join(&mut self, stream: StreamKey) {
        self.round.push_back(stream);
    }

    /// Takes the stream whose turn it is out of the round.
    pub(super) fn next(&mut self) -> Option<StreamKey> {
        self.round.pop_front()
    }

    /// Whether no stream waits.
    pub(super) fn is_empty(&self) -> bool {
        self.round.is_empty()
    }

    /// Takes a stream out of the round, wherever it is.
    pub(super) fn leave(&mut self, stream: StreamKey) {
        self.round.retain(|waiting| *waiting != stream);
    }
}
