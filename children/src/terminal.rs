//! Makes pseudo-terminals and changes their size.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Winsize};

use super::platform;

/// Rows of a terminal whose client names none (8.1).
pub const DEFAULT_ROWS: u16 = 24;
/// Columns of a terminal whose client names none (8.1).
pub const DEFAULT_COLS: u16 = 80;

/// Our end of a new terminal (non-blocking, close-on-exec) and the path of the child's end.
///
/// The terminal has the kernel's default settings, cooked with echo, and `IUTF8`, so that the erase key takes a whole
/// character.
pub(super) fn open(rows: u16, cols: u16) -> io::Result<(OwnedFd, CString)> {
    let (master, path) = platform::open_terminal(rows, cols)?;
    let mut settings = rustix::termios::tcgetattr(&master)?;
    settings.input_modes |= InputModes::IUTF8;
    rustix::termios::tcsetattr(&master, OptionalActions::Now, &settings)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, path))
}

/// The same by Linux's own calls, before its settings are changed. The child opens its end itself, after `setsid`: that alone makes
/// it the controlling terminal.
///
/// portable-pty opens both ends without close-on-exec and sets it afterwards: a program that another thread starts in
/// between would keep our end open, and this terminal would never hang up.
#[cfg(not(any(feature = "portable", not(target_os = "linux"))))]
pub(super) fn open_master(rows: u16, cols: u16) -> io::Result<(OwnedFd, CString)> {
    use rustix::pty::OpenptFlags;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    resize(&master, rows, cols)?;
    let path = rustix::pty::ptsname(&master, Vec::new())?;
    Ok((master, path))
}

/// Rows and columns of a terminal.
///
/// # Errors
/// When `master` is no terminal.
pub fn size(master: impl AsFd) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(master)?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets the terminal's size. Its foreground process group gets SIGWINCH if the size changes.
///
/// # Errors
/// When `master` is no terminal.
pub fn resize(master: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// The bytes that a person would type to end a program's input on this terminal as it is set now; `last` is what was typed
/// before.
///
/// In the middle of a line, the first end-of-file key only hands over the line (termios(3), VEOF), so there are two. A
/// program that reads keys instead of lines gets the key once, and decides what it means. Where the terminal has no such
/// key, it is set to `^D`, since nothing else could end the input.
///
/// # Errors
/// When `master` is no terminal.
pub fn end_of_input(master: impl AsFd, last: u8) -> io::Result<Vec<u8>> {
    /// What stands for no key (termios(3), `_POSIX_VDISABLE`).
    const NO_KEY: u8 = 0;
    let mut settings = rustix::termios::tcgetattr(&master)?;
    let key = settings.special_codes[SpecialCodeIndex::VEOF];
    let by_lines = settings.local_modes.contains(LocalModes::ICANON);
    let usual = 0x04;
    if !by_lines {
        return Ok(vec![if key == NO_KEY { usual } else { key }]);
    }
    if key == NO_KEY {
        settings.special_codes[SpecialCodeIndex::VEOF] = usual;
        rustix::termios::tcsetattr(&master, OptionalActions::Now, &settings)?;
    }
    let key = settings.special_codes[SpecialCodeIndex::VEOF];
    let other_ends = [SpecialCodeIndex::VEOL, SpecialCodeIndex::VEOL2].map(|end| settings.special_codes[end]);
    let ends_line =
        matches!(last, b'\n' | b'\r') || last == key || (last != NO_KEY && other_ends.contains(&last));
    Ok(vec![key; if ends_line { 1 } else { 2 }])
}
