//! This side of a program's streams: our own descriptors, our signals, our terminal.

pub(crate) mod io;
pub(crate) mod signals;
pub(crate) mod terminal;
