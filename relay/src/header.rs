//! Reads of a relay frame what routing needs: version, stream id, and which body it has (`remote.md` 4).
//!
//! On the hot path: the payload is skipped, not decoded, and the original bytes travel on. What is accepted
//! equals what a protobuf library accepts of the outer message (a property test holds it to that).

use crate::frame::VERSION;

/// How deep groups of unknown fields may nest, as in prost.
const GROUP_DEPTH: u32 = 100;

/// Which member of the frame's `oneof` is present; the last one wins, as protobuf has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// A piece of a conversation.
    Data,
    /// Acknowledges; nobody uses it.
    Ack,
    /// Opens a stream on a plain relay.
    Resume,
    /// Ends a stream, with a reason.
    Reset,
    /// Keeps a stream alive; nobody uses it.
    Heartbeat,
    /// Carries one of the two messages of a Noise handshake.
    Handshake,
}

/// What routing needs of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// [`VERSION`], or a frame that is dropped.
    pub version: u32,
    /// May be blank, and is dropped then.
    pub stream_id: &'a str,
    /// Absent: a frame that is dropped.
    pub body: Option<BodyKind>,
    /// Bytes of the body's message; a reset of none has no reason, and ends nothing (4.2).
    pub body_bytes: usize,
}

impl Header<'_> {
    /// Whether the frame has all that is needed to pass it on.
    pub fn is_routable(&self) -> bool {
        self.version == VERSION && self.body.is_some() && !self.stream_id.trim().is_empty()
    }

    /// Whether the frame ends its stream.
    pub fn ends_stream(&self) -> bool {
        self.body == Some(BodyKind::Reset) && self.body_bytes > 0
    }
}

/// Reads the header of a frame; `None` for bytes that are no frame.
pub fn scan(bytes: &[u8]) -> Option<Header<'_>> {
    let mut cursor = Cursor(bytes);
    let mut header = Header { version: 0, stream_id: "", body: None, body_bytes: 0 };
    while !cursor.0.is_empty() {
        let (field, wire) = cursor.key()?;
        match (field, wire) {
            // Truncated like a protobuf uint32.
            (1, Wire::Varint) => header.version = (cursor.varint()? & u64::from(u32::MAX)) as u32,
            (3 | 4, Wire::Varint) => drop(cursor.varint()?),
            (2, Wire::Bytes) => header.stream_id = std::str::from_utf8(cursor.bytes()?).ok()?,
            (11 | 12, Wire::Bytes) => drop(std::str::from_utf8(cursor.bytes()?).ok()?),
            (5..=10, Wire::Bytes) => {
                let body = match field {
                    5 => BodyKind::Data,
                    6 => BodyKind::Ack,
                    7 => BodyKind::Resume,
                    8 => BodyKind::Reset,
                    9 => BodyKind::Heartbeat,
                    _ => BodyKind::Handshake,
                };
                let length = cursor.bytes()?.len();
                // A field that comes twice is merged.
                header.body_bytes =
                    if header.body == Some(body) { header.body_bytes + length } else { length };
                header.body = Some(body);
            }
            (1..=12, _) => return None,
            (field, wire) => cursor.skip(field, wire, GROUP_DEPTH)?,
        }
    }
    Some(header)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn key(&mut self) -> Option<(u32, Wire)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return None,
        };
        (key >> 3 != 0).then_some((key >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    fn skip(&mut self, field: u32, wire: Wire, depth: u32) -> Option<()> {
        if depth == 0 {
            return None;
        }
        match wire {
            Wire::Varint => drop(self.varint()?),
            Wire::Fixed64 => drop(self.take(8)?),
            Wire::Fixed32 => drop(self.take(4)?),
            Wire::Bytes => drop(self.bytes()?),
            Wire::GroupEnd => return None,
            Wire::GroupStart => loop {
                match self.key()? {
                    (inner, Wire::GroupEnd) if inner == field => break,
                    (inner, wire) => self.skip(inner, wire, depth - 1)?,
                }
            },
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
