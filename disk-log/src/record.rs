//! One record: a head of a fixed size, and its content. No I/O.

/// Begins every head, so that one can be found again behind damage. Not ASCII, and not valid UTF-8 at its beginning.
pub(crate) const MARKER: [u8; 4] = [0x9e, b'C', b'X', b'L'];
/// Bytes of a head.
pub(crate) const HEAD: usize = 44;
/// The largest content. A safeguard, far from any real use.
pub(crate) const MOST_CONTENT: usize = 64 << 20;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Output of file descriptor 1.
    Stdout,
    /// Output of file descriptor 2.
    Stderr,
    /// Output of a terminal.
    Pty,
    /// The program was reaped; the content is what the writer says about it.
    Exited,
    /// The last record of a log that ended: exited, and all output seen.
    Closed,
    /// From here on output was not kept; the content is a sentence that says why.
    Gap,
    /// What the writer says about the program that was started.
    Start,
    /// How the log ended.
    End,
    /// Of a newer version.
    Other(u8),
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Pty => 3,
            Self::Exited => 4,
            Self::Closed => 5,
            Self::Gap => 6,
            Self::Start => 7,
            Self::End => 8,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Pty,
            4 => Self::Exited,
            5 => Self::Closed,
            6 => Self::Gap,
            7 => Self::Start,
            8 => Self::End,
            other => Self::Other(other),
        }
    }

    /// Whether the content is output, and counts for the offset.
    #[must_use]
    pub fn is_output(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr | Self::Pty)
    }
}

/// What stands before a record's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is about.
    pub kind: Kind,
    /// Its number in the log, from 1.
    pub seq: u64,
    /// Bytes of output before it.
    pub offset: u64,
    /// When it was written, in milliseconds since 1970.
    pub time: u64,
    /// Bytes of its content.
    pub length: u32,
    checksum: u32,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it says of itself.
    pub head: Head,
    /// What it is for.
    pub content: Vec<u8>,
}

/// The checksum of some bytes, of one log.
pub(crate) fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Head {
    /// The head of a record with this content.
    pub(crate) fn new(kind: Kind, seq: u64, offset: u64, time: u64, salt: u32, content: &[u8]) -> Self {
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        Self { kind, seq, offset, time, length, checksum: checksum(salt, content) }
    }

    pub(crate) fn encode(&self, salt: u32) -> [u8; HEAD] {
        let parts: [&[u8]; 7] = [
            &MARKER,
            &[self.kind.number(), 0, 0, 0],
            &self.length.to_le_bytes(),
            &self.seq.to_le_bytes(),
            &self.offset.to_le_bytes(),
            &self.time.to_le_bytes(),
            &self.checksum.to_le_bytes(),
        ];
        let mut head = [0; HEAD];
        let mut bytes = parts.into_iter().flatten();
        for place in &mut head[..HEAD - 4] {
            *place = bytes.next().copied().unwrap_or(0);
        }
        let own = checksum(salt, &head[..HEAD - 4]).to_le_bytes();
        head[HEAD - 4..].copy_from_slice(&own);
        head
    }

    /// The head at the beginning of `bytes`; nothing if it is damaged, cut off or another log's.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..HEAD)?;
        let own = u32::from_le_bytes(number(bytes, HEAD - 4)?);
        if !bytes.starts_with(&MARKER) || checksum(salt, &bytes[..HEAD - 4]) != own {
            return None;
        }
        let head = Self {
            kind: Kind::of(bytes[4]),
            length: u32::from_le_bytes(number(bytes, 8)?),
            seq: u64::from_le_bytes(number(bytes, 12)?),
            offset: u64::from_le_bytes(number(bytes, 20)?),
            time: u64::from_le_bytes(number(bytes, 28)?),
            checksum: u32::from_le_bytes(number(bytes, 36)?),
        };
        (head.length as usize <= MOST_CONTENT).then_some(head)
    }

    /// Whether this is the content that was written.
    pub(crate) fn fits(&self, salt: u32, content: &[u8]) -> bool {
        content.len() == self.length as usize && checksum(salt, content) == self.checksum
    }

    /// Bytes of the whole record.
    pub(crate) fn size(&self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }

    /// Bytes of output in it.
    #[must_use]
    pub fn output(&self) -> u64 {
        if self.kind.is_output() { u64::from(self.length) } else { 0 }
    }
}

/// What a file holds that holds one record: the record twice, so that damage to one of them costs nothing.
pub(crate) fn encode(kind: Kind, time: u64, content: &[u8]) -> Vec<u8> {
    let head = Head::new(kind, 0, 0, time, 0, content).encode(0);
    [&head[..], content].concat().repeat(2)
}

/// The time and content of the record that such a file holds; nothing if both are damaged.
pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let one = |bytes: Option<&'_ [u8]>| {
        let head = Head::decode(bytes?, 0)?;
        let content = bytes?.get(HEAD..HEAD + head.length as usize)?;
        (head.kind == kind && head.fits(0, content)).then_some((head.time, content.len()))
    };
    let half = bytes.len() / 2;
    let (from, (time, length)) =
        [0, half].into_iter().find_map(|from| one(bytes.get(from..)).map(|found| (from, found)))?;
    Some((time, bytes.get(from + HEAD..from + HEAD + length)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_head_is_read_as_it_was_written_and_no_flipped_bit_is(
            kind in any::<u8>(), seq in any::<u64>(), offset in any::<u64>(), time in any::<u64>(), salt in any::<u32>(),
            content in prop::collection::vec(any::<u8>(), 0..50), bit in 0..HEAD * 8,
        ) {
            let head = Head::new(Kind::of(kind), seq, offset, time, salt, &content);
            let mut bytes = head.encode(salt);
            prop_assert_eq!(Head::decode(&bytes, salt), Some(head));
            prop_assert_eq!(Head::decode(&bytes, salt ^ 1), None);
            prop_assert!(head.fits(salt, &content));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Head::decode(&bytes, salt), None);
        }
    }
}
