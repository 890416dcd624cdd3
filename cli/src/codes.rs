//! Exit codes that mean the same for every command.

/// The command line makes no sense.
pub(crate) const WRONG_USAGE: u8 = 2;
/// The program exists but can't be run, as a shell says it.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The program does not exist, as a shell says it.
pub(crate) const NOT_FOUND: u8 = 127;
