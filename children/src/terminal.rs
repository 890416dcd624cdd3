//! Makes pseudo-terminals and changes their size.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Rows of a terminal whose client names none (8.1).
pub const DEFAULT_ROWS: u16 = 24;
/// Columns of a terminal whose client names none (8.1).
pub const DEFAULT_COLS: u16 = 80;

/// Our end of a new terminal (non-blocking, close-on-exec) and the path of the child's end.
///
/// The terminal has the kernel's first settings: cooked, with echo. The child's end is not opened here, so that the
/// child itself opens it, after `setsid`: that makes it the controlling terminal without a call of ours in between.
///
/// portable-pty, which would do for the pair, opens both ends without close-on-exec and sets it afterwards: a program
/// started by another thread in between would keep our end, and this terminal would never hang up.
pub(super) fn open(rows: u16, cols: u16) -> io::Result<(OwnedFd, CString)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    resize(&master, rows, cols)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let path = rustix::pty::ptsname(&master, Vec::new())?;
    Ok((master, path))
}

/// Gives the terminal another size; its foreground programs get SIGWINCH if that changes it.
///
/// # Errors
/// When `master` is no terminal.
pub fn resize(master: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}
