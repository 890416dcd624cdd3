//! A message that is sent while it is made, in parts. Its length is known beforehand.

use codex_websocket::{HEAD_BYTES, Opcode, head_size, write_head};

use super::frame::{Framing, LENGTH_BYTES, Prefix};

/// Frames the parts of one message.
#[derive(Debug)]
pub struct Parts {
    framing: Framing,
    length: usize,
    /// What is still to come.
    left: usize,
}

impl Parts {
    /// For a message of `length` bytes, which a stream has to carry.
    pub fn new(framing: Framing, length: usize) -> Self {
        Self { framing, length, left: length }
    }

    /// Makes `buffer` ready for the next part's payload, which is to be appended.
    pub fn begin(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.resize(HEAD_BYTES, 0);
    }

    /// What is to be sent of `buffer`, which holds a part that is not empty, and whether more follow: then control frames may go
    /// between, and nothing else.
    pub fn end<'b>(&mut self, buffer: &'b mut Vec<u8>) -> super::Piece<'b> {
        let size = buffer.len() - HEAD_BYTES;
        debug_assert!((1..=self.left).contains(&size), "parts add up to the length");
        let (first, last) = (self.left == self.length, self.left == size);
        self.left = self.left.saturating_sub(size);
        let head = match self.framing {
            Framing::WebSocket => {
                let head = HEAD_BYTES - head_size(size);
                let opcode = if first { Opcode::Text } else { Opcode::Continuation };
                write_head(&mut buffer[head..HEAD_BYTES], opcode, last, size);
                head
            }
            Framing::Stream { .. } if first => {
                let prefix = Prefix { ping: false, length: self.length }.write();
                buffer[HEAD_BYTES - LENGTH_BYTES..HEAD_BYTES].copy_from_slice(&prefix);
                HEAD_BYTES - LENGTH_BYTES
            }
            Framing::Lines | Framing::Stream { .. } => HEAD_BYTES,
        };
        if last && self.framing == Framing::Lines {
            buffer.push(b'\n');
        }
        super::Piece { bytes: &buffer[head..], within: !last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::FrameBuffer;

    /// A message in parts, as it goes to the socket.
    fn sent(framing: Framing, parts: &[&[u8]]) -> Vec<u8> {
        let (mut buffer, mut sent) = (Vec::new(), Vec::new());
        let mut framed = Parts::new(framing, parts.iter().map(|part| part.len()).sum());
        for (number, part) in parts.iter().enumerate() {
            framed.begin(&mut buffer);
            buffer.extend_from_slice(part);
            let piece = framed.end(&mut buffer);
            sent.extend_from_slice(piece.bytes);
            assert_eq!(piece.within, number + 1 < parts.len());
        }
        sent
    }

    #[test]
    fn parts_are_a_fragmented_message_on_a_websocket() {
        let large = vec![b'x'; 70_000];
        let sent = sent(Framing::WebSocket, &[b"ab", &[b'm'; 300], &large]);
        let heads: [&[u8]; 3] = [&[0x01, 2], &[0x00, 126, 1, 44], &[0x80, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]];
        let expected = [heads[0], b"ab", heads[1], &[b'm'; 300], heads[2], &large].concat();
        assert!(sent == expected);
    }

    #[test]
    fn parts_are_the_same_message_on_lines_and_streams() {
        for framing in [Framing::Lines, Framing::Stream { longest_message: 1 << 20 }] {
            let mut whole = FrameBuffer::new(framing);
            whole.message(0, |out| out.extend_from_slice(b"one two three"));
            assert_eq!(sent(framing, &[b"one", b" two", b" three"]), whole.bytes());
            assert_eq!(sent(framing, &[b"one two three"]), whole.bytes());
        }
    }
}
