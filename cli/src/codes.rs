//! Exit codes that mean the same for every command.

/// This side can't go on, or the other side could not do what was asked.
pub(crate) const FAILURE: u8 = 1;
/// The command line makes no sense.
pub(crate) const WRONG_USAGE: u8 = 2;
/// A token is missing, or was refused.
pub(crate) const NO_CREDENTIAL: u8 = 4;
/// The program exists but can't be run, as a shell says it.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The program does not exist, as a shell says it.
pub(crate) const NOT_FOUND: u8 = 127;
/// No connection, or it was lost; for commands that stand for a program.
pub(crate) const UNREACHABLE: u8 = 255;
/// 128 + SIGPIPE: nobody reads our stdout any more.
pub(crate) const BROKEN_PIPE: u8 = 141;
/// `--timeout` ended the program.
pub(crate) const TIMED_OUT: u8 = 124;
/// 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;
/// 128 + SIGTERM.
pub(crate) const TERMINATED: u8 = 143;
