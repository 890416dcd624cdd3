//! A place in a log.

/// A place in a log, before a record: its number, and the bytes of output before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of the record that comes next; the first is 1.
    pub seq: u64,
    /// Bytes of output of all streams before it.
    pub offset: u64,
}

/// What ends a segment's name.
const ENDING: &str = ".log";

impl Position {
    /// The beginning of every log.
    pub const START: Self = Self { seq: 1, offset: 0 };

    /// The name of the segment that begins here. Names sort as positions do.
    pub(crate) fn segment(self) -> String {
        format!("{:016x}-{:016x}{ENDING}", self.seq, self.offset)
    }

    /// Where the segment of this name begins; nothing for another file.
    pub(crate) fn of_segment(name: &str) -> Option<Self> {
        let (seq, offset) = name.strip_suffix(ENDING)?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let position = Self { seq: number(seq)?, offset: number(offset)? };
        (position.segment() == name).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_by_their_position_and_by_nothing_else() {
        for position in [Position::START, Position { seq: 77, offset: u64::MAX }] {
            assert_eq!(Position::of_segment(&position.segment()), Some(position));
        }
        let (low, high) = (Position { seq: 9, offset: 1 << 20 }, Position { seq: 10, offset: 1 << 21 });
        assert!(low.segment() < high.segment());
        for other in ["start", "end", "1-2.log", "+000000000000001-0000000000000000.log", ".log", "-.log"] {
            assert_eq!(Position::of_segment(other), None, "{other}");
        }
    }
}
