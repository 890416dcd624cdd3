//! Rows for people and for scripts: aligned on a terminal, with tabs in a pipe.

use std::io;

use rustix::stdio::stdout;
use rustix::termios::{isatty, tcgetwinsize};

use crate::codes::{BROKEN_PIPE, FAILURE};
use crate::{closed_stdout, output};

/// Between two columns on a terminal.
const GAP: usize = 3;

/// A table of a fixed number of columns.
pub(crate) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings and no rows.
    pub(crate) fn new(head: [&'static str; N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row. Control characters, which could act on a terminal or tear a line, are shown as escapes.
    pub(crate) fn row(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(plain));
    }

    /// Prints it: with headings and in columns on a terminal, else the rows alone, with a tab between cells.
    ///
    /// # Errors
    /// Nobody reads stdout any more, or it is full.
    pub(crate) fn print(&self) -> io::Result<()> {
        let text = match isatty(stdout()) {
            true => self.aligned(tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_col))),
            false => self.rows.iter().map(|row| format!("{}\n", row.join("\t"))).collect(),
        };
        output::bytes(text.as_bytes())
    }

    /// In columns; lines are cut at `width` where it is known.
    fn aligned(&self, width: usize) -> String {
        let head = self.head.map(str::to_owned);
        let lines: Vec<&[String; N]> = std::iter::once(&head).chain(&self.rows).collect();
        let length = |text: &str| text.chars().count();
        let widths: [usize; N] =
            std::array::from_fn(|column| lines.iter().map(|line| length(&line[column])).max().unwrap_or(0));
        let mut text = String::new();
        for line in lines {
            let mut shown = String::new();
            for (cell, wide) in line.iter().zip(widths) {
                shown.push_str(cell);
                shown.extend(std::iter::repeat_n(' ', wide + GAP - length(cell)));
            }
            let shown = shown.trim_end();
            match width {
                0 => text.push_str(shown),
                width => text.extend(shown.chars().take(width)),
            }
            text.push('\n');
        }
        text
    }
}

/// The exit code of a command that had something to print; what kept it from that is told.
pub(crate) fn printed(result: io::Result<()>) -> u8 {
    match result {
        // What was written went to /dev/null, which Rust's runtime has put in the place of what was not there.
        Ok(()) => match closed_stdout::check() {
            Ok(()) => 0,
            Err(sentence) => {
                output::error(&sentence);
                FAILURE
            }
        },
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
        Err(error) => {
            output::error(&format!("can't write to stdout: {error}"));
            FAILURE
        }
    }
}

/// A text without characters that act on a terminal.
pub(crate) fn plain(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text
            .chars()
            .flat_map(|letter| match letter.is_control() {
                true => letter.escape_default().collect::<Vec<_>>(),
                false => vec![letter],
            })
            .collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_acts_on_the_terminal() {
        let mut table = Table::new(["A", "LONG", "C"]);
        table.row(["wide one", "ä", "\x1b[2J\n"]);
        assert_eq!(table.aligned(0), "A          LONG   C\nwide one   ä      \\u{1b}[2J\\n\n");
        assert_eq!(table.aligned(6), "A\nwide o\n".replace("A\n", "A     \n"));
    }
}
