//! Recordings of programs' output in asciinema's format (<https://docs.asciinema.org/manual/asciicast/v3/>): written as version 3,
//! read as 2 and 3, and played at their pace. No I/O, and no clock: who plays says what time it is.

mod read;
mod schedule;
mod text;
mod write;

use std::time::Duration;

pub use read::{CastError, Reader};
pub use schedule::Schedule;
pub use text::{LineEnds, Text};
pub use write::Writer;

/// What a recording says of itself, first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Columns of the terminal at the beginning.
    pub cols: u16,
    /// Its rows.
    pub rows: u16,
    /// When the recording begins, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// What people call it.
    pub title: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// How long after the one before, or after the beginning.
    pub after: Duration,
    /// What it was.
    pub kind: Kind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The program printed this.
    Output(String),
    /// Somebody typed this.
    Input(String),
    /// The terminal has another size.
    Resize {
        /// Its columns.
        cols: u16,
        /// Its rows.
        rows: u16,
    },
    /// Somebody has marked this place.
    Marker(String),
    /// The program ended with this code.
    Exit(i32),
    /// Of a newer version, or not understood: its letter.
    Other(String),
}
