//! RFC 6455 frames from a client: unmasked in place and put together (section 2.3).

use codex_websocket::{FrameError, Head, Opcode, close, unmask};

use super::buffer::Buffer;
use super::parsed::Parsed;
use crate::transport::event::ReadError;

/// Largest message of a peer that has shown no token and opened no session: an `initialize` has far less.
/// A safeguard, far from any real use.
const STRANGER_BYTES: usize = 64 << 10;

pub(super) struct WebSocket {
    frame_limit: usize,
    message_limit: usize,
    /// Smaller ones, for a peer that nobody knows yet.
    stranger: bool,
    /// The frame whose payload is arriving.
    frame: Option<Head>,
    /// The kind of the message whose fragments are arriving.
    message: Option<Opcode>,
}

impl WebSocket {
    pub(super) fn new(frame_limit: usize, message_limit: usize) -> Self {
        Self { frame_limit, message_limit, stranger: false, frame: None, message: None }
    }

    /// Whether messages are held to [`STRANGER_BYTES`].
    pub(super) fn set_stranger(&mut self, stranger: bool) {
        self.stranger = stranger;
    }

    /// Whether a close frame lies among what is not parsed yet.
    pub(super) fn has_close(&self, unparsed: &[u8]) -> bool {
        let mut rest = match self.frame {
            Some(head) if head.opcode == Opcode::Close => return true,
            Some(head) => unparsed.get(head.length..).unwrap_or_default(),
            None => unparsed,
        };
        // In which order parts come is for the parser to judge.
        while let Ok(Some((head, size))) = Head::read(rest, false).or_else(|_| Head::read(rest, true)) {
            if head.opcode == Opcode::Close {
                return true;
            }
            rest = rest.get(size.saturating_add(head.length)..).unwrap_or_default();
        }
        false
    }

    /// The next event that is complete in the buffer.
    pub(super) fn step(&mut self, buffer: &mut Buffer) -> Result<Option<Parsed>, ReadError> {
        loop {
            let head = match self.frame {
                Some(head) => head,
                None => match self.head(buffer)? {
                    Some(head) => *self.frame.insert(head),
                    None => return Ok(None),
                },
            };
            if buffer.unparsed().len() < head.length {
                return Ok(None);
            }
            self.frame = None;
            if let Some(found) = self.payload(head, buffer)? {
                return Ok(Some(found));
            }
        }
    }

    /// Reads a head and steps over it; `None` when it has not arrived in full.
    fn head(&self, buffer: &mut Buffer) -> Result<Option<Head>, ReadError> {
        let Some((head, size)) = Head::read(buffer.unparsed(), self.message.is_some())? else {
            return Ok(None);
        };
        self.check_length(head, buffer.held)?;
        buffer.raw += size;
        Ok(Some(head))
    }

    /// Holds the length of a frame's payload to the bounds of frame and message.
    fn check_length(&self, Head { opcode, length, .. }: Head, held: usize) -> Result<(), ReadError> {
        let most = if self.stranger { STRANGER_BYTES } else { usize::MAX };
        let (frame, message) = (self.frame_limit.min(most), self.message_limit.min(most));
        if length > frame {
            return Err(ReadError::TooLarge { what: "websocket frame", limit: frame });
        }
        if !opcode.is_control() && held.saturating_add(length) > message {
            return Err(ReadError::TooLarge { what: "websocket message", limit: message });
        }
        Ok(())
    }

    /// Takes a frame's payload, which has arrived in full.
    fn payload(&mut self, head: Head, buffer: &mut Buffer) -> Result<Option<Parsed>, ReadError> {
        let range = buffer.raw..buffer.raw + head.length;
        unmask(&mut buffer.bytes[range.clone()], head.mask);
        buffer.raw = range.end;
        match head.opcode {
            Opcode::Ping => Ok(Some(Parsed::Ping(range))),
            Opcode::Pong => Ok(Some(Parsed::Pong(range))),
            Opcode::Close => Ok(Some(Parsed::Close(close::code(&buffer.bytes[range])?))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.data(head, range.start, buffer),
        }
    }

    /// Joins a data frame to its message; gives the message when this was its last frame.
    fn data(&mut self, head: Head, payload: usize, buffer: &mut Buffer) -> Result<Option<Parsed>, ReadError> {
        let opcode = *self.message.get_or_insert(head.opcode);
        if buffer.held == 0 {
            buffer.start = payload;
        } else if buffer.start + buffer.held != payload {
            buffer.bytes.copy_within(payload..payload + head.length, buffer.start + buffer.held);
        }
        buffer.held += head.length;
        if !head.last {
            return Ok(None);
        }
        let range = buffer.start..buffer.start + buffer.held;
        buffer.held = 0;
        self.message = None;
        if opcode == Opcode::Text && std::str::from_utf8(&buffer.bytes[range.clone()]).is_err() {
            return Err(FrameError::NotUtf8.into());
        }
        Ok(Some(Parsed::Message(range)))
    }
}
