//! The executor's streams of a Noise relay (section 8): no I/O, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Event, Identity, RelayLimits, SendError, StreamKey, Verdict};

/// All streams of one websocket.
#[derive(Debug)]
pub(super) struct NoiseStreams {
    events: VecDeque<Event>,
}

impl NoiseStreams {
    pub(super) fn new(_: Arc<Identity>, _: String, _: String, _: RelayLimits) -> Self {
        Self { events: VecDeque::new() }
    }
    pub(super) fn receive(&mut self, _now: Instant, _message: Bytes) {}
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
    pub(super) fn validated(&mut self, _now: Instant, _: StreamKey, _: Verdict) {}
    pub(super) fn has_room(&self, _: StreamKey) -> bool {
        false
    }
    pub(super) fn send(&mut self, _: StreamKey, _: Bytes) -> Result<(), SendError> {
        Err(SendError::Ended)
    }
    pub(super) fn close(&mut self, _: StreamKey) {}
    pub(super) fn has_transmit(&self) -> bool {
        false
    }
    pub(super) fn next_transmit(&mut self) -> Option<Bytes> {
        None
    }
}
