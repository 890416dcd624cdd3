//! The local terminal: its size, and raw mode that is undone on every way out.

use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Rows and columns of the terminal at any of our three descriptors.
pub(crate) fn size() -> Option<(u16, u16)> {
    [stdout(), stdin(), stderr()]
        .into_iter()
        .find_map(|fd| tcgetwinsize(fd).ok())
        .map(|size| (size.ws_row, size.ws_col))
        .filter(|(rows, cols)| *rows > 0 && *cols > 0)
}

/// Whether what the program writes is shown by a terminal, whose answers it gets.
pub(crate) fn is_real() -> bool {
    isatty(stdin()) && isatty(stdout())
}

/// Keeps the terminal raw; dropping it gives back what was.
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// Sets stdin's terminal to raw; none when stdin is no terminal.
    pub(crate) fn enter() -> std::io::Result<Option<Self>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Leaves the second screen that full-screen programs use.
pub(crate) const LEAVE_ALTERNATE: &[u8] = b"\x1b[?1049l";
/// What gives a terminal back to the shell that it belongs to, whatever modes a program has left on; begins with
/// [`LEAVE_ALTERNATE`].
pub(crate) const GIVEN_BACK: &[u8] =
    b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[m";
