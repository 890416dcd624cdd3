//! One message for each line (section 3).

use super::buffer::Buffer;
use super::parsed::Parsed;
use crate::transport::event::ReadError;

pub(super) struct Lines {
    limit: usize,
    /// How much of the unparsed bytes is known to hold no newline.
    scanned: usize,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, scanned: 0 }
    }

    /// The next line that is not blank, without its end.
    pub(super) fn step(&mut self, buffer: &mut Buffer) -> Result<Option<Parsed>, ReadError> {
        loop {
            let unparsed = buffer.unparsed();
            let Some(offset) = memchr::memchr(b'\n', &unparsed[self.scanned..]) else {
                self.scanned = unparsed.len();
                // A carriage return may turn out to belong to the newline.
                let carriage_return = usize::from(unparsed.last() == Some(&b'\r'));
                return self.within(unparsed.len() - carriage_return).map(|()| None);
            };
            let line = trimmed(&unparsed[..self.scanned + offset]);
            let (length, blank) = (line.len(), is_blank(line));
            self.within(length)?;
            let start = buffer.raw;
            buffer.raw += self.scanned + offset + 1;
            self.scanned = 0;
            if !blank {
                return Ok(Some(Parsed::Message(start..start + length)));
            }
        }
    }

    /// The last line, when it has no newline.
    pub(super) fn last(&mut self, buffer: &mut Buffer) -> Option<Parsed> {
        let line = trimmed(buffer.unparsed());
        let (length, blank) = (line.len(), is_blank(line));
        let start = buffer.raw;
        buffer.raw = buffer.bytes.len();
        self.scanned = 0;
        (!blank).then(|| Parsed::Message(start..start + length))
    }

    fn within(&self, length: usize) -> Result<(), ReadError> {
        if length > self.limit {
            return Err(ReadError::TooLarge { what: "line", limit: self.limit });
        }
        Ok(())
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}
