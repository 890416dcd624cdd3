//! Large messages in fragments (RFC 6455, 5.4), so that control frames can stand between: a single frame of 42 MB would keep
//! a slow connection from every sign of life, and what stands between would cut it.

use codex_websocket::{HEAD_BYTES, Opcode, head_size, write_head};

use super::frame::{FrameBuffer, Framing};

/// A message of more than this is cut. Chosen for speed.
const LARGE_BYTES: usize = 1 << 20;
/// Payload of one fragment. Chosen for speed.
const FRAGMENT_BYTES: usize = 256 << 10;

/// Gives a buffer's bytes piece by piece. A fragment's head is written over the end of the fragment before it, which has
/// been sent by then: the payload stays where it is.
#[derive(Debug, Default)]
pub struct Fragments {
    /// What is before is sent.
    at: usize,
    /// Where the payload of the message that is being cut ends, and whether its first fragment is sent.
    cutting: Option<(usize, bool)>,
}

/// A piece to send.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The bytes of this part.
    pub bytes: &'a [u8],
    /// More of the same message follows: control frames may go before it, and nothing else.
    pub within: bool,
}

impl Fragments {
    /// The next piece of the same buffer each time; the one before has to be sent by then.
    pub fn next<'b>(&mut self, buffer: &'b mut FrameBuffer) -> Option<Piece<'b>> {
        if self.cutting.is_none() {
            if self.at >= buffer.len() {
                return None;
            }
            let start = self.at;
            match large_from(buffer, start) {
                Some((head, payload)) if head == start => {
                    self.at = head + HEAD_BYTES;
                    self.cutting = Some((self.at + payload, false));
                }
                found => {
                    self.at = found.map_or(buffer.len(), |(head, _)| head);
                    return Some(Piece { bytes: &buffer.bytes()[start..self.at], within: false });
                }
            }
        }
        let (end, begun) = self.cutting?;
        let size = FRAGMENT_BYTES.min(end - self.at);
        let (head, last) = (self.at - head_size(size), self.at + size == end);
        let opcode = if begun { Opcode::Continuation } else { Opcode::Text };
        write_head(&mut buffer.bytes_mut()[head..self.at], opcode, last, size);
        self.at += size;
        self.cutting = (!last).then_some((end, true));
        Some(Piece { bytes: &buffer.bytes()[head..self.at], within: !last })
    }
}

/// The first large message from `at` on, where a frame begins: where its head is, and the length of its payload.
fn large_from(buffer: &FrameBuffer, at: usize) -> Option<(usize, usize)> {
    if buffer.framing() != Framing::WebSocket || buffer.len() - at <= LARGE_BYTES {
        return None;
    }
    let bytes = buffer.bytes();
    let mut head = at;
    loop {
        // Frames of our own: without a mask, and whole.
        let [_, short, rest @ ..] = bytes.get(head..)? else { return None };
        let length = match short {
            126 => usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
            127 => usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?,
            short => usize::from(*short),
        };
        if length > LARGE_BYTES {
            return Some((head, length));
        }
        head += head_size(length) + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opcode, whether it is the last, and payload of each frame.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, bool, Vec<u8>)> {
        let mut frames = Vec::new();
        while let [first, short, ..] = bytes {
            let (head, length) = match short {
                126 => (4, usize::from(u16::from_be_bytes(bytes[2..4].try_into().unwrap()))),
                127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
                short => (2, usize::from(*short)),
            };
            frames.push((first & 0xf, first & 0x80 != 0, bytes[head..head + length].to_vec()));
            bytes = &bytes[head + length..];
        }
        frames
    }

    fn sent(buffer: &mut FrameBuffer) -> Vec<u8> {
        let (mut fragments, mut sent) = (Fragments::default(), Vec::new());
        while let Some(piece) = fragments.next(buffer) {
            sent.extend_from_slice(piece.bytes);
            if piece.within {
                sent.extend_from_slice(&[0x8a, 0]);
            }
        }
        sent
    }

    #[test]
    fn a_large_message_is_whole_with_control_frames_between_and_small_ones_stay_as_they_are() {
        for size in [LARGE_BYTES + 1, 8 * FRAGMENT_BYTES, 8 * FRAGMENT_BYTES + 1, 8 * FRAGMENT_BYTES + 70_000]
        {
            let payload: Vec<u8> = (0..size).map(|at| (at * 7 / 3) as u8).collect();
            let small: [&[u8]; 3] = [b"before", &[b'x'; 300], &vec![b'y'; LARGE_BYTES]];
            let mut buffer = FrameBuffer::new(Framing::WebSocket);
            for message in [small[0], small[1], &payload, &payload, small[2]] {
                buffer.message(message.len(), |out| out.extend_from_slice(message));
            }
            let (mut messages, mut partial, mut pongs) = (Vec::new(), Vec::new(), 0);
            for (opcode, last, bytes) in frames(&sent(&mut buffer)) {
                if opcode == Opcode::Pong as u8 {
                    assert!(!partial.is_empty(), "a control frame outside of a message");
                    pongs += 1;
                    continue;
                }
                assert_eq!(opcode == Opcode::Text as u8, partial.is_empty());
                partial.extend_from_slice(&bytes);
                if last {
                    messages.push(std::mem::take(&mut partial));
                }
            }
            assert!(messages == [small[0], small[1], &payload, &payload, small[2]], "{size}");
            assert_eq!(pongs, 2 * (size.div_ceil(FRAGMENT_BYTES) - 1));
        }
    }

    #[test]
    fn lines_and_streams_are_not_cut() {
        for framing in [Framing::Lines, Framing::Stream { longest_message: 1 << 30 }] {
            let mut buffer = FrameBuffer::new(framing);
            buffer.message(3 << 20, |out| out.resize(out.len() + (3 << 20), b'x'));
            let whole = buffer.bytes().to_vec();
            assert!(sent(&mut buffer) == whole);
        }
    }
}
