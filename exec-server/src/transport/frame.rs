//! Outgoing messages, encoded straight into the bytes that go to the socket.

use codex_websocket::{CONTROL_BYTES, Opcode, close, head_size, write_head};

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6455 frames, unmasked: the server's side.
    WebSocket,
    /// One message for each line.
    Lines,
    /// Inside this process, to whoever owns a virtual stream: each message after its length (see [`Prefix`]).
    Stream {
        /// Longest message that the stream carries, less than 2 GiB; a longer answer becomes an error.
        longest_message: usize,
    },
}

impl Framing {
    /// The longest message that it carries, in bytes; none where there is no such bound.
    pub const fn longest_message(self) -> Option<usize> {
        match self {
            Self::WebSocket | Self::Lines => None,
            Self::Stream { longest_message } => Some(longest_message),
        }
    }
}

/// Size of a [`Prefix`]. Chosen for speed.
pub(super) const LENGTH_BYTES: usize = 4;
/// What a [`Prefix`] can tell. Chosen for speed.
const LONGEST_PREFIXED: usize = (1 << 31) - 1;
/// Marks a ping in a [`Prefix`].
const PING_MARK: u32 = 1 << 31;

/// What precedes a message or a ping on [`Framing::Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) ping: bool,
    pub(super) length: usize,
}

impl Prefix {
    pub(super) const fn read(bytes: [u8; LENGTH_BYTES]) -> Self {
        let word = u32::from_be_bytes(bytes);
        Self { ping: word & PING_MARK != 0, length: (word & !PING_MARK) as usize }
    }

    pub(super) const fn write(self) -> [u8; LENGTH_BYTES] {
        let mark = if self.ping { PING_MARK } else { 0 };
        (self.length as u32 | mark).to_be_bytes()
    }
}

/// A buffer of encoded messages on their way to a socket.
#[derive(Debug)]
pub struct FrameBuffer {
    framing: Framing,
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// An empty buffer; allocates nothing.
    pub const fn new(framing: Framing) -> Self {
        Self { framing, bytes: Vec::new() }
    }

    /// What waits to be written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, for whoever cuts it into fragments.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// How many bytes wait to be written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no bytes to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How messages are told apart here.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Forgets everything; keeps the allocation when it is at most `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        if self.bytes.capacity() > keep {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }

    /// Appends one text message that `encode` writes; `expected` is its likely length in bytes.
    ///
    /// `encode` must only append. The payload is written once, where it will be sent from; a guess in the
    /// wrong one of the three header sizes (below 126, below 65,536, above) costs a move of the payload.
    pub fn message(&mut self, expected: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        match self.framing {
            Framing::Lines => {
                self.bytes.reserve(expected.saturating_add(1));
                encode(&mut self.bytes);
                self.bytes.push(b'\n');
            }
            Framing::WebSocket => self.frame(expected, encode),
            Framing::Stream { longest_message } => self.prefixed(longest_message, expected, encode),
        }
    }

    /// What is longer than the stream carries is left out and logged: answers are checked where they are encoded.
    fn prefixed(&mut self, longest: usize, expected: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.reserve(expected.saturating_add(LENGTH_BYTES));
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        encode(&mut self.bytes);
        let length = self.bytes.len().saturating_sub(start + LENGTH_BYTES);
        if length > longest.min(LONGEST_PREFIXED) {
            tracing::warn!(length, longest, "a message is longer than a stream carries and was not sent");
            self.bytes.truncate(start);
            return;
        }
        let prefix = Prefix { ping: false, length }.write();
        self.bytes[start..start + LENGTH_BYTES].copy_from_slice(&prefix);
    }

    fn frame(&mut self, expected: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let guessed = head_size(expected);
        let start = self.bytes.len();
        self.bytes.reserve(expected.saturating_add(guessed));
        self.bytes.resize(start + guessed, 0);
        encode(&mut self.bytes);
        debug_assert!(self.bytes.len() >= start + guessed, "encode must only append");
        let length = self.bytes.len().saturating_sub(start + guessed);
        let needed = head_size(length);
        self.move_payload(start + guessed, start + needed, length);
        write_head(&mut self.bytes[start..start + needed], Opcode::Text, true, length);
    }

    fn move_payload(&mut self, from: usize, to: usize, length: usize) {
        if from == to {
            return;
        }
        if to > from {
            self.bytes.resize(to + length, 0);
        }
        self.bytes.copy_within(from..from + length, to);
        self.bytes.truncate(to + length);
    }

    /// Forgets what came after the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// Appends a ping with this payload (at most 125 bytes, the rest is cut off); nothing on lines.
    pub fn ping(&mut self, payload: &[u8]) {
        self.control(Opcode::Ping, payload);
    }

    /// Appends a pong with this payload (at most 125 bytes, the rest is cut off); only on a websocket.
    pub fn pong(&mut self, payload: &[u8]) {
        self.control(Opcode::Pong, payload);
    }

    /// Appends a close frame with this code and no reason; only on a websocket.
    pub fn close(&mut self, code: u16) {
        self.control(Opcode::Close, &close::payload(code, ""));
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        let length = payload.len().min(CONTROL_BYTES);
        match self.framing {
            Framing::WebSocket => {
                let mut head = [0; head_size(CONTROL_BYTES)];
                write_head(&mut head, opcode, true, length);
                self.bytes.extend_from_slice(&head);
            }
            // The owner of the websocket answers pings, and sees an end as the end of the stream.
            Framing::Stream { .. } if opcode == Opcode::Ping => {
                self.bytes.extend_from_slice(&Prefix { ping: true, length }.write());
            }
            Framing::Lines | Framing::Stream { .. } => return,
        }
        self.bytes.extend_from_slice(&payload[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(expected: usize, length: usize) -> Vec<u8> {
        let mut buffer = FrameBuffer::new(Framing::WebSocket);
        buffer.ping(b"before");
        buffer.message(expected, |out| out.extend((0..length).map(|i| i as u8)));
        buffer.bytes()[8..].to_vec()
    }

    #[test]
    fn the_header_is_minimal_whatever_the_guess() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for expected in [0, 125, 126, 65_535, 65_536, 1 << 20] {
                let frame = encoded(expected, length);
                let header: Vec<u8> = match length {
                    0..126 => vec![0x81, length as u8],
                    126..=65_535 => [&[0x81, 126][..], &(length as u16).to_be_bytes()].concat(),
                    _ => [&[0x81, 127][..], &(length as u64).to_be_bytes()].concat(),
                };
                assert_eq!(&frame[..header.len()], header, "{length} guessed {expected}");
                assert!(frame[header.len()..].iter().copied().eq((0..length).map(|i| i as u8)));
            }
        }
    }

    #[test]
    fn lines_carry_no_control_frames() {
        let mut buffer = FrameBuffer::new(Framing::Lines);
        buffer.ping(b"x");
        buffer.pong(b"x");
        buffer.close(1000);
        assert!(buffer.is_empty());
        buffer.message(2, |out| out.extend_from_slice(b"{}"));
        assert_eq!(buffer.bytes(), b"{}\n");
    }

    #[test]
    fn control_frames_have_their_rfc_form() {
        let mut buffer = FrameBuffer::new(Framing::WebSocket);
        buffer.ping(b"");
        buffer.pong(b"ab");
        buffer.close(1001);
        assert_eq!(buffer.bytes(), [0x89, 0, 0x8a, 2, b'a', b'b', 0x88, 2, 0x03, 0xe9]);
        buffer.clear(0);
        buffer.ping(&[7; 200]);
        assert_eq!(buffer.len(), 127);
    }

    #[test]
    fn clear_keeps_a_small_allocation_and_frees_a_large_one() {
        let mut buffer = FrameBuffer::new(Framing::Lines);
        buffer.message(1000, |out| out.resize(1000, b'x'));
        buffer.clear(1 << 20);
        assert!(buffer.bytes.capacity() >= 1000 && buffer.is_empty());
        buffer.clear(10);
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_guess_gives_the_same_frame(length in 0usize..70_000, expected in 0usize..70_000) {
            prop_assert_eq!(encoded(expected, length), encoded(length, length));
        }
    }
}
