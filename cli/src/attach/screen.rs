//! What a program's terminal shows, made from what it has printed.

use std::num::NonZero;

use vt100::Parser;

/// Lines above the screen that are remembered while output is taken in; only the screen itself is shown.
const SCROLLBACK: usize = 0;

/// A terminal that shows nothing, and knows what it would show.
pub(super) struct Screen(Parser);

impl Screen {
    /// An empty one of this size.
    pub(super) fn new(rows: u16, cols: u16) -> Self {
        Self(parser(rows, cols))
    }

    /// Takes output in.
    pub(super) fn take(&mut self, output: &[u8]) {
        self.0.process(output);
    }

    /// What brings a real terminal of this size to the same state, whatever it showed before.
    pub(super) fn shown(mut self, rows: u16, cols: u16) -> Vec<u8> {
        self.0.screen_mut().set_size(at_least_1(rows), at_least_1(cols));
        let screen = self.0.screen();
        // Out of whatever was there, then an empty screen.
        let mut shown = b"\x1b[!p\x1b[?1049l\x1b[m".to_vec();
        if screen.alternate_screen() {
            shown.extend_from_slice(b"\x1b[?1049h");
        }
        shown.extend_from_slice(b"\x1b[H\x1b[2J");
        shown.extend_from_slice(screen.state_formatted().as_bytes());
        shown
    }
}

fn parser(rows: u16, cols: u16) -> Parser {
    Parser::new(at_least_1(rows), at_least_1(cols), SCROLLBACK)
}

fn at_least_1(size: u16) -> NonZero<u16> {
    NonZero::new(size).unwrap_or(NonZero::<u16>::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a screen that gets this output.
    fn text(rows: u16, cols: u16, output: &[u8]) -> String {
        let mut parser = parser(rows, cols);
        parser.process(output);
        parser.screen().contents()
    }

    #[test]
    fn a_terminal_comes_to_the_same_state_from_any_other() {
        for output in [
            "plain\r\ntext",
            "\x1b[31mred\x1b[m and \x1b[5;10Hplaced",
            "before\x1b[?1049h\x1b[2J\x1b[Hfull \x1b[7mscreen",
            "many\r\n\x1b[?25l\x1b[?1h\x1b[?2004h\x1b=",
            "wide 漢字 and e\u{301}",
        ] {
            let mut first = Screen::new(10, 40);
            first.take(output.as_bytes());
            let shown = first.shown(10, 40);
            let mut other = parser(10, 40);
            other.process(b"\x1b[?1049hrubbish\x1b[44m\r\n\x1b[?25l more rubbish");
            other.process(&shown);
            let mut wanted = parser(10, 40);
            wanted.process(output.as_bytes());
            let (got, wanted) = (other.screen(), wanted.screen());
            assert_eq!(got.contents_formatted(), wanted.contents_formatted(), "{output:?}");
            assert_eq!(got.input_mode_formatted(), wanted.input_mode_formatted(), "{output:?}");
            assert_eq!(got.cursor_position(), wanted.cursor_position(), "{output:?}");
            assert_eq!(got.alternate_screen(), wanted.alternate_screen(), "{output:?}");
        }
    }

    #[test]
    fn another_size_shows_what_fits() {
        let mut screen = Screen::new(10, 40);
        screen.take(b"\x1b[Habcdef\r\nsecond");
        let shown = screen.shown(5, 20);
        assert_eq!(text(5, 20, &shown), "abcdef\nsecond");
    }
}
