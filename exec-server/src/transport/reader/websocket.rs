//! RFC 6455 frames from a client: unmasked in place and put together (section 2.3).

use super::{Buffer, Found, ReadError};

/// Largest payload of a control frame (RFC 6455, 5.5).
const CONTROL_BYTES: u64 = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: Kind,
    last: bool,
    mask: [u8; 4],
    length: usize,
}

pub(super) struct WebSocket {
    frame_limit: usize,
    message_limit: usize,
    /// The frame whose payload is arriving.
    frame: Option<Header>,
    /// The kind of the message whose fragments are arriving.
    message: Option<Kind>,
}

impl WebSocket {
    pub(super) fn new(frame_limit: usize, message_limit: usize) -> Self {
        Self { frame_limit, message_limit, frame: None, message: None }
    }

    /// The next event that is complete in the buffer.
    pub(super) fn step(&mut self, buffer: &mut Buffer) -> Result<Option<Found>, ReadError> {
        loop {
            let header = match self.frame {
                Some(header) => header,
                None => match self.header(buffer)? {
                    Some(header) => *self.frame.insert(header),
                    None => return Ok(None),
                },
            };
            if buffer.unparsed().len() < header.length {
                return Ok(None);
            }
            self.frame = None;
            if let Some(found) = self.payload(header, buffer)? {
                return Ok(Some(found));
            }
        }
    }

    /// Parses and checks a header, and steps over it; `None` when it has not arrived in full.
    fn header(&self, buffer: &mut Buffer) -> Result<Option<Header>, ReadError> {
        let [first, second, rest @ ..] = buffer.unparsed() else { return Ok(None) };
        let (kind, last) = self.first_byte(*first)?;
        if second & 0x80 == 0 {
            return Err(ReadError::Protocol("a client's frame must be masked"));
        }
        let short = u64::from(second & 0x7f);
        if is_control(kind) && short > CONTROL_BYTES {
            return Err(ReadError::Protocol("control frame of more than 125 bytes"));
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
                None => return Ok(None),
            },
            _ => (short, rest),
        };
        let length = self.bounded(kind, length, buffer.held)?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let header = Header { kind, last, mask: *mask, length };
        buffer.raw = buffer.bytes.len() - rest.len();
        Ok(Some(header))
    }

    fn first_byte(&self, byte: u8) -> Result<(Kind, bool), ReadError> {
        if byte & 0x70 != 0 {
            return Err(ReadError::Protocol("reserved bit set, but no extension was agreed on"));
        }
        let last = byte & 0x80 != 0;
        let kind = match byte & 0x0f {
            0 => Kind::Continuation,
            1 => Kind::Text,
            2 => Kind::Binary,
            8 => Kind::Close,
            9 => Kind::Ping,
            10 => Kind::Pong,
            _ => return Err(ReadError::Protocol("reserved opcode")),
        };
        match kind {
            Kind::Continuation if self.message.is_none() => {
                Err(ReadError::Protocol("continuation frame without a message to continue"))
            }
            Kind::Text | Kind::Binary if self.message.is_some() => {
                Err(ReadError::Protocol("new message inside a fragmented one"))
            }
            Kind::Close | Kind::Ping | Kind::Pong if !last => {
                Err(ReadError::Protocol("fragmented control frame"))
            }
            _ => Ok((kind, last)),
        }
    }

    /// The length of a frame's payload, within the bounds of frame and message.
    fn bounded(&self, kind: Kind, length: u64, held: usize) -> Result<usize, ReadError> {
        let too_large = |what, limit| ReadError::TooLarge { what, limit };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.frame_limit {
            return Err(too_large("websocket frame", self.frame_limit));
        }
        if !is_control(kind) && held.saturating_add(length) > self.message_limit {
            return Err(too_large("websocket message", self.message_limit));
        }
        Ok(length)
    }

    /// Takes a frame's payload, which has arrived in full.
    fn payload(&mut self, header: Header, buffer: &mut Buffer) -> Result<Option<Found>, ReadError> {
        let range = buffer.raw..buffer.raw + header.length;
        unmask(&mut buffer.bytes[range.clone()], header.mask);
        buffer.raw = range.end;
        match header.kind {
            Kind::Ping => Ok(Some(Found::Ping(range))),
            Kind::Pong => Ok(Some(Found::Pong(range))),
            Kind::Close => close_code(&buffer.bytes[range]).map(|code| Some(Found::Close(code))),
            Kind::Text | Kind::Binary | Kind::Continuation => self.data(header, range.start, buffer),
        }
    }

    /// Joins a data frame to its message; gives the message when this was its last frame.
    fn data(
        &mut self,
        header: Header,
        payload: usize,
        buffer: &mut Buffer,
    ) -> Result<Option<Found>, ReadError> {
        let kind = *self.message.get_or_insert(header.kind);
        if buffer.held == 0 {
            buffer.start = payload;
        } else if buffer.start + buffer.held != payload {
            buffer.bytes.copy_within(payload..payload + header.length, buffer.start + buffer.held);
        }
        buffer.held += header.length;
        if !header.last {
            return Ok(None);
        }
        let range = buffer.start..buffer.start + buffer.held;
        buffer.held = 0;
        self.message = None;
        if kind == Kind::Text && std::str::from_utf8(&buffer.bytes[range.clone()]).is_err() {
            return Err(ReadError::Protocol("text that is not UTF-8"));
        }
        Ok(Some(Found::Message(range)))
    }
}

fn is_control(kind: Kind) -> bool {
    matches!(kind, Kind::Close | Kind::Ping | Kind::Pong)
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, ReadError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ReadError::Protocol("close frame with half a code")),
        [high, low, ..] => Ok(Some(u16::from_be_bytes([*high, *low]))),
    }
}

/// Undoes the mask, eight bytes at a time (the compiler widens this further).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}
