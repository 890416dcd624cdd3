//! Bytes of output as text: recordings have no others.

/// What becomes of line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnds {
    /// They stay: a terminal has made them what they are.
    Keep,
    /// A line feed alone gets a carriage return, as a terminal would add it to what comes out of a pipe.
    AddReturns,
}

/// Turns pieces of output into text. A character that is cut by the end of a piece comes with the next.
#[derive(Debug)]
pub struct Text {
    line_ends: LineEnds,
    /// The beginning of a character: at most three bytes.
    begun: Vec<u8>,
    /// The last character was a carriage return.
    returned: bool,
}

impl Text {
    /// For output from its beginning.
    #[must_use]
    pub fn new(line_ends: LineEnds) -> Self {
        Self { line_ends, begun: Vec::new(), returned: false }
    }

    /// The text of the next bytes. What is no UTF-8 becomes U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut whole = std::mem::take(&mut self.begun);
        whole.extend_from_slice(bytes);
        let unfinished = unfinished(&whole);
        self.begun = whole.split_off(whole.len() - unfinished);
        let text = String::from_utf8_lossy(&whole);
        match self.line_ends {
            LineEnds::Keep => text.into_owned(),
            LineEnds::AddReturns => self.with_returns(&text),
        }
    }

    /// The text of what is left at the end.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()
    }

    fn with_returns(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            if character == '\n' && !self.returned {
                out.push('\r');
            }
            self.returned = character == '\r';
            out.push(character);
        }
        out
    }
}

/// How many bytes at the end begin a character that may still be finished.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(at) = (0..tail.len()).rev().find(|at| tail[*at] & 0b1100_0000 != 0b1000_0000) else { return 0 };
    let rest = &tail[at..];
    // What can't become a character is none, however it goes on.
    let possible = matches!(std::str::from_utf8(rest), Err(error) if error.error_len().is_none());
    if possible { rest.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(line_ends: LineEnds, pieces: &[&[u8]]) -> String {
        let mut text = Text::new(line_ends);
        let mut out: String = pieces.iter().map(|piece| text.push(piece)).collect();
        out.push_str(&text.finish());
        out
    }

    #[test]
    fn a_cut_character_is_whole_and_a_broken_one_is_marked() {
        for (pieces, expected) in [
            (&[&b"a\xc3"[..], b"\xa4b"][..], "aäb"),
            (&[b"\xf0\x9f", b"\x98", b"\x80"], "😀"),
            (&[b"\xff", b"x"], "\u{fffd}x"),
            (&[b"\xe2\x82"], "\u{fffd}"),
            (&[b"\xe0\x80", b"x"], "\u{fffd}\u{fffd}x"),
            (&[b"", b""], ""),
        ] {
            assert_eq!(joined(LineEnds::Keep, pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_pipe_s_lines_get_their_returns_once() {
        let pieces: [&[u8]; 3] = [b"a\nb\r", b"\nc\n", b"\n"];
        assert_eq!(joined(LineEnds::AddReturns, &pieces), "a\r\nb\r\nc\r\n\r\n");
        assert_eq!(joined(LineEnds::Keep, &pieces), "a\nb\r\nc\n\n");
    }

    proptest! {
        #[test]
        fn text_does_not_depend_on_where_it_is_cut(text: String, cuts in proptest::collection::vec(0..64_usize, 0..8)) {
            let (mut rest, mut pieces) = (text.as_bytes(), Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(joined(LineEnds::Keep, &pieces), text);
        }

        #[test]
        fn any_bytes_are_some_text(pieces: Vec<Vec<u8>>) {
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            let whole = pieces.concat();
            prop_assert_eq!(joined(LineEnds::Keep, &pieces), String::from_utf8_lossy(&whole));
        }
    }
}
