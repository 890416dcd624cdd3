//! Answers what programs ask their terminal, for a client that has none: as a terminal would that shows nothing.
//!
//! Without an answer a program waits for its time-out. The questions, as far as released servers answer them (8.1), are
//! taken out of the output.

use bytes::Bytes;

const ESCAPE: u8 = 0x1b;
/// Digits of a mode's number: real ones have up to four. A safeguard, far from any real use.
const MOST_DIGITS: usize = 5;

/// Looks for questions in a terminal's output.
#[derive(Debug, Default)]
pub(super) struct Queries {
    /// The beginning of what may be a question, at the end of what came so far; a few bytes.
    begun: Vec<u8>,
}

/// What stands at an escape.
enum Found {
    /// A question of so many bytes, with its answer.
    Query(usize, Vec<u8>),
    /// All that is left may be the beginning of one.
    Begun,
    Other,
}

impl Queries {
    /// The output without the questions, and the answers in their order. `size`: rows and columns of the terminal.
    ///
    /// What may be the beginning of a question comes with the next output, or from [`Self::rest`].
    pub(super) fn take(&mut self, output: Bytes, size: impl Fn() -> (u16, u16)) -> (Bytes, Vec<u8>) {
        let output = if self.begun.is_empty() {
            output
        } else {
            let mut whole = std::mem::take(&mut self.begun);
            whole.extend_from_slice(&output);
            whole.into()
        };
        let (mut kept, mut answers) = (Vec::new(), Vec::new());
        // From where on nothing is decided, and from where on nothing was copied.
        let (mut from, mut copied) = (0, 0);
        while let Some(at) = memchr::memchr(ESCAPE, output.get(from..).unwrap_or_default()) {
            let at = from + at;
            match look(output.get(at..).unwrap_or_default(), &size) {
                Found::Query(length, answer) => {
                    kept.extend_from_slice(output.get(copied..at).unwrap_or_default());
                    answers.extend(answer);
                    (from, copied) = (at + length, at + length);
                }
                Found::Begun => {
                    self.begun = output.get(at..).unwrap_or_default().to_vec();
                    let rest = output.slice(copied..at);
                    return (
                        if kept.is_empty() { rest } else { [&kept[..], &rest[..]].concat().into() },
                        answers,
                    );
                }
                Found::Other => from = at + 1,
            }
        }
        if copied == 0 {
            return (output, answers);
        }
        kept.extend_from_slice(output.get(copied..).unwrap_or_default());
        (kept.into(), answers)
    }

    /// How many bytes are held back.
    pub(super) fn held_back(&self) -> usize {
        self.begun.len()
    }

    /// What is still held back, when no more output comes.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.begun).into()
    }
}

/// What `bytes`, which begin with an escape, are.
fn look(bytes: &[u8], size: impl Fn() -> (u16, u16)) -> Found {
    /// The questions without a number in them.
    const PLAIN: [&[u8]; 3] = [b"\x1b[6n", b"\x1b[5n", b"\x1b[18t"];
    for query in PLAIN {
        if bytes.starts_with(query) {
            let answer = match query {
                b"\x1b[6n" => b"\x1b[1;1R".to_vec(),
                b"\x1b[5n" => b"\x1b[0n".to_vec(),
                _ => {
                    let (rows, cols) = size();
                    format!("\x1b[8;{rows};{cols}t").into_bytes()
                }
            };
            return Found::Query(query.len(), answer);
        }
        if query.starts_with(bytes) {
            return Found::Begun;
        }
    }
    let Some(mode) = bytes.strip_prefix(b"\x1b[?") else { return Found::Other };
    let digits = mode.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = mode.split_at(digits);
    match rest {
        _ if digits > MOST_DIGITS => Found::Other,
        [] => Found::Begun,
        [b'$'] if digits > 0 => Found::Begun,
        [b'$', b'p', ..] if digits > 0 => {
            // 0: no such mode.
            Found::Query(b"\x1b[?$p".len() + digits, [b"\x1b[?", number, b";0$y"].concat())
        }
        _ => Found::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that comes out of pieces.
    fn through<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<u8>) {
        let (mut queries, mut output, mut answers) = (Queries::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let (kept, answered) = queries.take(Bytes::copy_from_slice(piece), || (24, 80));
            assert!(queries.begun.len() <= b"\x1b[?$".len() + MOST_DIGITS);
            output.extend_from_slice(&kept);
            answers.extend(answered);
        }
        output.extend_from_slice(&queries.rest());
        (output, answers)
    }

    #[test]
    fn four_questions_are_answered_and_nothing_else() {
        for (output, left, answers) in [
            ("\x1b[6n", "", "\x1b[1;1R"),
            ("\x1b[5n", "", "\x1b[0n"),
            ("\x1b[18t", "", "\x1b[8;24;80t"),
            ("\x1b[?2026$p", "", "\x1b[?2026;0$y"),
            ("a\x1b[6nb\x1b[?1$pc", "abc", "\x1b[1;1R\x1b[?1;0$y"),
            ("\x1b\x1b[6n", "\x1b", "\x1b[1;1R"),
            ("plain", "plain", ""),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m", ""),
            ("\x1b[16n\x1b[66n\x1b[8t\x1b[?$p", "\x1b[16n\x1b[66n\x1b[8t\x1b[?$p", ""),
            ("\x1b[?25l\x1b[?25h", "\x1b[?25l\x1b[?25h", ""),
            ("\x1b[?123456$p", "\x1b[?123456$p", ""),
            ("unfinished \x1b[?20", "unfinished \x1b[?20", ""),
        ] {
            let got = through([output.as_bytes()]);
            assert_eq!(got, (left.into(), answers.into()), "{output:?}");
        }
    }

    proptest! {
        #[test]
        fn how_output_is_cut_into_pieces_changes_nothing(
            text in "(\x1b\\[6n|\x1b\\[5n|\x1b\\[18t|\x1b\\[\\?[0-9]{1,6}\\$p|[\x1b\\[?0-9$ptnR]){0,20}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces = at.windows(2).map(|window| &bytes[window[0]..window[1]]);
            prop_assert_eq!(through(pieces), through([bytes]));
        }
    }
}
