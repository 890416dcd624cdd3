//! What the bytes of a transport were found to be.

use std::ops::Range;

/// Where an event lies in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    Message(Range<usize>),
    Ping(Range<usize>),
    Pong(Range<usize>),
    Close(Option<u16>),
}
