//! The head of a frame: read as a client sends it, written as a server does (RFC 6455, 5.2).

/// Longest payload of a control frame (RFC 6455, 5.5). Fixed by the wire.
pub const CONTROL_BYTES: usize = 125;
/// Longest head of a server's frame. Fixed by the wire.
pub const HEAD_BYTES: usize = 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0x0,
    /// The first part of a text message.
    Text = 0x1,
    /// The first part of a binary message.
    Binary = 0x2,
    /// The peer is done.
    Close = 0x8,
    /// To be answered by a pong with the same payload.
    Ping = 0x9,
    /// A sign of life.
    Pong = 0xa,
}

impl Opcode {
    /// Whether it stands between messages or their parts, never being one.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn read(bits: u8) -> Result<Self, FrameError> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(FrameError::Opcode),
        })
    }
}

/// What a client may not send. After it no frame can be told from another: the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A bit of an extension that nobody asked for.
    #[error("reserved bit set, but no extension was agreed on")]
    ReservedBit,
    /// A kind of frame that does not exist.
    #[error("reserved opcode")]
    Opcode,
    /// A frame without a mask.
    #[error("a client's frame must be masked")]
    Unmasked,
    /// A control frame above [`CONTROL_BYTES`].
    #[error("control frame of more than 125 bytes")]
    LongControl,
    /// A control frame in parts.
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A continuation of nothing.
    #[error("continuation frame without a message to continue")]
    Continuation,
    /// A message within a message.
    #[error("new message inside a fragmented one")]
    Nested,
    /// A close frame of one byte.
    #[error("close frame with half a code")]
    HalfCode,
    /// A text message that is none.
    #[error("text that is not UTF-8")]
    NotUtf8,
}

/// The head of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The kind of the frame.
    pub opcode: Opcode,
    /// Whether it is its message's last part.
    pub last: bool,
    /// To be undone by [`crate::unmask`].
    pub mask: [u8; 4],
    /// Length of the payload in bytes, as claimed: check it before room is made.
    pub length: usize,
}

impl Head {
    /// Reads a head and its own length; `None` when it has not arrived in full. `under_way` tells that a message's first
    /// part has come and its last has not.
    ///
    /// # Errors
    /// What RFC 6455 forbids, as soon as it can be seen.
    pub fn read(bytes: &[u8], under_way: bool) -> Result<Option<(Self, usize)>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (opcode, last) = first_byte(*first, under_way)?;
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES {
            return Err(FrameError::LongControl);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some((Self { opcode, last, mask, length }, bytes.len() - rest.len())))
    }
}

fn first_byte(byte: u8, under_way: bool) -> Result<(Opcode, bool), FrameError> {
    if byte & 0x70 != 0 {
        return Err(FrameError::ReservedBit);
    }
    let (opcode, last) = (Opcode::read(byte & 0x0f)?, byte & 0x80 != 0);
    match opcode {
        Opcode::Continuation if !under_way => Err(FrameError::Continuation),
        Opcode::Text | Opcode::Binary if under_way => Err(FrameError::Nested),
        Opcode::Close | Opcode::Ping | Opcode::Pong if !last => Err(FrameError::FragmentedControl),
        _ => Ok((opcode, last)),
    }
}

/// Size of the shortest head of a server's frame with a payload of this length: 2, 4 or [`HEAD_BYTES`].
pub const fn head_size(length: usize) -> usize {
    match length {
        0..126 => 2,
        126..=0xffff => 4,
        _ => HEAD_BYTES,
    }
}

/// Writes the head of a server's frame over `head`, which has the size that [`head_size`] gives for `length`.
pub fn write_head(head: &mut [u8], opcode: Opcode, last: bool, length: usize) {
    head[0] = opcode as u8 | if last { 0x80 } else { 0 };
    match head.len() {
        2 => head[1] = length as u8,
        4 => {
            head[1] = 126;
            head[2..].copy_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// What a client would send for the head that a server writes.
    fn masked(opcode: Opcode, last: bool, length: usize) -> Vec<u8> {
        let mut head = vec![0; head_size(length)];
        write_head(&mut head, opcode, last, length);
        head[1] |= 0x80;
        head.extend(MASK);
        head
    }

    #[test]
    fn a_head_is_read_as_it_was_written_once_it_is_there() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40] {
            for last in [false, true] {
                let bytes = masked(Opcode::Binary, last, length);
                for cut in 0..bytes.len() {
                    assert_eq!(Head::read(&bytes[..cut], false), Ok(None), "{length} cut at {cut}");
                }
                let head = Head { opcode: Opcode::Binary, last, mask: MASK, length };
                let with_payload = [&bytes[..], b"payload"].concat();
                assert_eq!(Head::read(&with_payload, false), Ok(Some((head, bytes.len()))));
            }
        }
    }

    #[test]
    fn what_a_client_may_not_send_has_a_name_each() {
        for (first, second, under_way, error) in [
            (0xc1, 0x80, false, FrameError::ReservedBit),
            (0x83, 0x80, false, FrameError::Opcode),
            (0x8b, 0x80, false, FrameError::Opcode),
            (0x81, 0x00, false, FrameError::Unmasked),
            (0x89, 0xfe, false, FrameError::LongControl),
            (0x09, 0x80, false, FrameError::FragmentedControl),
            (0x80, 0x80, false, FrameError::Continuation),
            (0x81, 0x80, true, FrameError::Nested),
            (0x82, 0x80, true, FrameError::Nested),
        ] {
            assert_eq!(Head::read(&[first, second], under_way), Err(error), "{first:#x} {second:#x}");
        }
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong, Opcode::Continuation] {
            assert!(Head::read(&masked(opcode, true, 3), true).is_ok(), "{opcode:?} within a message");
        }
    }
}
