//! Text of a terminal without what colours it and moves the cursor, and a text that is looked for in it.

/// The text alone: control sequences of ECMA-48 and other control characters are left out.
pub(super) fn plain(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            0x1b => rest = after_escape(rest),
            b'\t' | b' '.. => text.push(byte),
            _ => {}
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What stands behind an escape sequence whose first character was taken.
fn after_escape(bytes: &[u8]) -> &[u8] {
    let behind = |at: Option<usize>| at.and_then(|at| bytes.get(at + 1..)).unwrap_or_default();
    match bytes.first() {
        // A control sequence ends with its final byte.
        Some(b'[') => {
            behind(bytes.iter().skip(1).position(|byte| (0x40..=0x7e).contains(byte)).map(|at| at + 1))
        }
        // A string ends with BEL, or with ESC and a backslash, of which the latter is dropped as an escape of its own.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => {
            match bytes.iter().position(|byte| matches!(byte, 0x07 | 0x1b)) {
                Some(at) if bytes.get(at) == Some(&0x07) => behind(Some(at)),
                Some(at) => bytes.get(at..).unwrap_or_default(),
                None => &[],
            }
        }
        Some(0x20..=0x2f) => behind(bytes.iter().position(|byte| (0x30..=0x7e).contains(byte))),
        Some(_) => behind(Some(0)),
        None => &[],
    }
}

/// A text that is looked for without regard to ASCII's case.
pub(super) struct Needle(Vec<u8>);

impl Needle {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase().into_bytes())
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        // Nothing is found everywhere, which nobody wants to know.
        !self.0.is_empty()
            && text.as_bytes().windows(self.0.len()).any(|window| window.eq_ignore_ascii_case(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_left() {
        for (bytes, text) in [
            (&b"plain\ttext\r\n"[..], "plain\ttext"),
            (b"\x1b[1;31mred\x1b[0m end", "red end"),
            (b"\x1b]0;title\x07shown", "shown"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b(Bascii\x1b=\x1b>", "ascii"),
            (b"cut\x1b[", "cut"),
            (b"cut\x1b", "cut"),
            (b"cut\x1b]0;no end", "cut"),
            ("sm\u{f8}rrebr\u{f8}d".as_bytes(), "sm\u{f8}rrebr\u{f8}d"),
        ] {
            assert_eq!(plain(bytes), text, "{bytes:?}");
        }
        assert!(
            Needle::new("ERR").is_in("an error")
                && !Needle::new("").is_in("x")
                && !Needle::new("ab").is_in("a")
        );
    }
}
