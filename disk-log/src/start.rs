//! What stands in a log's `start` and `end`.

use crate::error::LogError;
use crate::position::Position;
use crate::record::{self, Kind};

/// The name of the file with the start record.
pub(crate) const START: &str = "start";
/// The name of the file with the end record.
pub(crate) const END: &str = "end";

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The server that writes it.
    pub owner: [u8; 16],
    /// The boot of the machine that it began in.
    pub boot: [u8; 16],
    /// When it began, in milliseconds since 1970.
    pub time: u64,
    /// What the writer says about the program.
    pub about: Vec<u8>,
    pub(crate) salt: u32,
}

/// How a log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended, and all of its output was seen.
    Closed,
    /// The server died before the program's end was seen: the program was killed then, or was already over.
    ServerLost,
    /// The machine went down, or was restarted, before the program's end was seen.
    MachineLost,
}

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What became of the program.
    pub outcome: Outcome,
    /// When that was noticed, in milliseconds since 1970.
    pub time: u64,
    /// Behind the last of what was numbered.
    pub position: Position,
    /// What the writer said of the program's exit; also when only that was seen, and not the end of its output.
    pub exit: Option<Vec<u8>>,
}

impl Outcome {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Closed => 1,
            Self::ServerLost => 2,
            Self::MachineLost => 3,
        }
    }

    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Closed, Self::ServerLost, Self::MachineLost]
            .into_iter()
            .find(|outcome| outcome.number() == number)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Start {
    /// The content of the file that holds it; for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        self.encode()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let parts: [&[u8]; 4] = [&self.salt.to_le_bytes(), &self.owner, &self.boot, &self.about];
        record::encode(Kind::Start, self.time, &parts.concat())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (time, content) = record::decode(Kind::Start, bytes)?;
        Some(Self {
            salt: u32::from_le_bytes(array(content, 0)?),
            owner: array(content, 4)?,
            boot: array(content, 20)?,
            time,
            about: content.get(36..)?.to_vec(),
        })
    }
}

impl End {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            &[self.outcome.number(), u8::from(self.exit.is_some())],
            &self.position.seq.to_le_bytes(),
            &self.position.offset.to_le_bytes(),
            self.exit.as_deref().unwrap_or_default(),
        ];
        record::encode(Kind::End, self.time, &parts.concat())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (time, content) = record::decode(Kind::End, bytes)?;
        let position = Position {
            seq: u64::from_le_bytes(array(content, 2)?),
            offset: u64::from_le_bytes(array(content, 10)?),
        };
        let exit = content.get(18..)?;
        Some(Self {
            outcome: Outcome::of(*content.first()?)?,
            time,
            position,
            exit: (content.get(1) == Some(&1)).then(|| exit.to_vec()),
        })
    }
}

impl crate::Directory {
    /// The start record of the log in this directory; nothing if it is missing or damaged.
    pub(crate) fn start(&self) -> Result<Option<Start>, LogError> {
        Ok(self.read(START)?.and_then(|bytes| Start::decode(&bytes)))
    }

    /// The end record of the log in this directory; nothing if it is missing or damaged.
    pub(crate) fn end(&self) -> Result<Option<End>, LogError> {
        Ok(self.read(END)?.and_then(|bytes| End::decode(&bytes)))
    }

    /// Where the log's segments begin, in order.
    pub(crate) fn segments(&self) -> Result<Vec<Position>, LogError> {
        let names = self.names()?;
        let mut segments: Vec<_> = names.iter().filter_map(|name| Position::of_segment(name)).collect();
        segments.sort_unstable();
        Ok(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn starts_and_ends_are_read_as_they_were_written_also_when_one_bit_is_flipped_or_half_is_missing(
            owner in any::<[u8; 16]>(), boot in any::<[u8; 16]>(), time in any::<u64>(), salt in any::<u32>(),
            about in prop::collection::vec(any::<u8>(), 0..99), outcome in 1_u8..=3, seq in any::<u64>(),
            offset in any::<u64>(), exit in prop::option::of(prop::collection::vec(any::<u8>(), 0..99)),
            flip in any::<prop::sample::Index>(),
        ) {
            let start = Start { owner, boot, time, about, salt };
            let outcome = Outcome::of(outcome).expect("an outcome");
            let end = End { outcome, time, position: Position { seq, offset }, exit };
            let (mut first, mut last) = (start.encode(), end.encode());
            prop_assert_eq!(Start::decode(&first), Some(start.clone()));
            prop_assert_eq!(End::decode(&last), Some(end.clone()));
            prop_assert_eq!(Start::decode(&last), None);
            prop_assert_eq!(Start::decode(&first[..first.len() / 2]), Some(start.clone()));
            prop_assert_eq!(End::decode(&last[..last.len() / 2 - 1]), None);
            let (one, other) = (flip.index(first.len() * 8), flip.index(last.len() * 8));
            first[one / 8] ^= 1 << (one % 8);
            last[other / 8] ^= 1 << (other % 8);
            prop_assert_eq!(Start::decode(&first), Some(start));
            prop_assert_eq!(End::decode(&last), Some(end));
        }
    }
}
