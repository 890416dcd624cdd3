//! Keys that are for this command and not for the program: after a newline `~.`, `~d` and `~?`; and Ctrl-\ anywhere.

/// Ctrl-\ as a terminal sends it.
const LEAVE: u8 = 0x1c;

/// What typed bytes ask for, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// For the program.
    Bytes(Vec<u8>),
    /// Leave the program running.
    Detach,
    /// End the connection at once.
    Cut,
    /// Say which keys there are.
    Help,
}

/// Tells such keys from the others.
#[derive(Debug)]
pub(super) struct Escapes {
    /// The character that begins one; none when nothing is one.
    character: Option<u8>,
    at_line_start: bool,
    /// The character was typed at the start of a line.
    begun: bool,
    /// Ctrl-\ was typed, and nothing since.
    leaving: bool,
}

impl Escapes {
    pub(super) const fn new(character: Option<u8>) -> Self {
        Self { character, at_line_start: true, begun: false, leaving: false }
    }

    /// Whether Ctrl-\ was the last key: without another one soon, it means to leave.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Ctrl-\ was in vain.
    pub(super) const fn stay(&mut self) {
        self.leaving = false;
    }

    /// Takes what was typed.
    pub(super) fn take(&mut self, typed: &[u8]) -> Vec<Typed> {
        let Some(character) = self.character else { return vec![Typed::Bytes(typed.to_vec())] };
        let mut all = Vec::new();
        let mut bytes = Vec::new();
        for &byte in typed {
            if std::mem::take(&mut self.leaving) {
                if byte == LEAVE {
                    bytes.push(byte);
                    continue;
                }
                flush(&mut bytes, &mut all);
                all.push(Typed::Detach);
                return all;
            }
            if std::mem::take(&mut self.begun) {
                let found = match byte {
                    b'.' => Some(Typed::Cut),
                    b'd' => Some(Typed::Detach),
                    b'?' => Some(Typed::Help),
                    _ => None,
                };
                if let Some(found) = found {
                    flush(&mut bytes, &mut all);
                    all.push(found);
                    self.at_line_start = true;
                    continue;
                }
                bytes.push(character);
                self.at_line_start = false;
                if byte == character {
                    continue;
                }
            }
            if byte == LEAVE {
                self.leaving = true;
            } else if byte == character && self.at_line_start {
                self.begun = true;
            } else {
                self.at_line_start = matches!(byte, b'\r' | b'\n');
                bytes.push(byte);
            }
        }
        flush(&mut bytes, &mut all);
        all
    }
}

fn flush(bytes: &mut Vec<u8>, all: &mut Vec<Typed>) {
    if !bytes.is_empty() {
        all.push(Typed::Bytes(std::mem::take(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&str]) -> Vec<Typed> {
        let mut escapes = Escapes::new(Some(b'~'));
        let mut all: Vec<Typed> = Vec::new();
        for found in pieces.iter().flat_map(|piece| escapes.take(piece.as_bytes())) {
            match (all.last_mut(), found) {
                (Some(Typed::Bytes(before)), Typed::Bytes(more)) => before.extend(more),
                (_, found) => all.push(found),
            }
        }
        if escapes.is_leaving() {
            all.push(Typed::Detach);
        }
        all
    }

    #[test]
    fn keys_of_ours_are_known_after_a_newline_however_they_are_cut_and_the_rest_goes_through() {
        let bytes = |text: &str| Typed::Bytes(text.into());
        for (text, wanted) in [
            ("~.", vec![Typed::Cut]),
            ("~d", vec![Typed::Detach]),
            ("ls\r~?", vec![bytes("ls\r"), Typed::Help]),
            ("a~.", vec![bytes("a~.")]),
            ("~~.", vec![bytes("~.")]),
            ("~x~.", vec![bytes("~x~.")]),
            ("~\r~.", vec![bytes("~\r"), Typed::Cut]),
            ("a\x1c\x1cb", vec![bytes("a\x1cb")]),
            ("a\x1c", vec![bytes("a"), Typed::Detach]),
            ("~?~.", vec![Typed::Help, Typed::Cut]),
        ] {
            assert_eq!(typed(&[text]), wanted, "{text:?}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(typed(&letters), wanted, "{text:?} key by key");
        }
        assert_eq!(Escapes::new(None).take(b"~.\x1c"), [bytes("~.\x1c")]);
    }
}
