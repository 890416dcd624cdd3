//! What a flooding terminal gave, until it is worth a message.
//!
//! A terminal holds 12 KiB at most, and a program that prints lines writes few bytes at a time. Looked at often enough to keep
//! the program going, it gives some hundred bytes to a few KiB; each message would cost the client as much as a large one.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// This many bytes make a message. Chosen for speed.
const ENOUGH: usize = 32 << 10;
/// The longest that a byte waits: a quarter of a frame on a screen.
const LONGEST: Duration = Duration::from_millis(4);

/// Bytes that wait for more.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    bytes: Vec<u8>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Gathered {
    /// Takes what came at `now`. Returns everything once there is enough, or the first byte has waited long enough.
    pub(super) fn take(&mut self, bytes: Bytes, now: Instant) -> Bytes {
        if bytes.is_empty() && self.bytes.is_empty() {
            return bytes;
        }
        let since = *self.since.get_or_insert(now);
        if self.bytes.len() + bytes.len() >= ENOUGH || now.duration_since(since) >= LONGEST {
            return self.with(bytes);
        }
        self.bytes.extend_from_slice(&bytes);
        Bytes::new()
    }

    /// Everything, followed by these bytes.
    pub(super) fn with(&mut self, bytes: Bytes) -> Bytes {
        self.since = None;
        if self.bytes.is_empty() {
            return bytes;
        }
        self.bytes.extend_from_slice(&bytes);
        // A copy of the right size: the buffer is used again as long as the flood lasts.
        let all = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        all
    }

    /// Everything; the memory goes along.
    pub(super) fn end(&mut self) -> Bytes {
        self.since = None;
        std::mem::take(&mut self.bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_until_they_are_enough_or_it_is_time() {
        let (mut gathered, start) = (Gathered::default(), Instant::now());
        let piece = |length: usize| Bytes::from(vec![b'x'; length]);
        for (length, at, expected) in [
            (0, 0, 0),
            (10, 0, 0),
            (ENOUGH - 11, 1, 0),
            (1, 2, ENOUGH),
            (ENOUGH, 3, ENOUGH),
            // The time begins with the first byte.
            (5, 90, 0),
            (5, 93, 0),
            (0, 94, 10),
            (5, 200, 0),
            (5, 300, 10),
        ] {
            let told = gathered.take(piece(length), start + Duration::from_millis(at));
            assert_eq!(told.len(), expected, "{length} at {at}");
        }
        gathered.take(Bytes::from_static(b"first "), start);
        assert_eq!(gathered.with(Bytes::from_static(b"second")), "first second");
        assert_eq!(gathered.with(Bytes::from_static(b"third")), "third");
        gathered.take(Bytes::from_static(b"last"), start);
        assert_eq!(gathered.end(), "last");
        assert_eq!(gathered.bytes.capacity(), 0);
    }
}
