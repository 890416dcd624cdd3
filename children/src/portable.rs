//! Starts programs and makes terminals in ways that every Unix system has: the standard library's process calls and
//! `portable-pty`. Linux has its own (`vfork.rs`), and takes these with the feature `portable`, so that the same tests run on
//! both.
//!
//! It forks, so a start costs more the larger this process is, and it looks at nothing that Linux alone has.

#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use libc::{c_char, c_int};
use parking_lot::RwLock;
use portable_pty::{PtySize, native_pty_system};
use rustix::io::FdFlags;
use rustix::process::Pid;

use super::descriptor_limit;
use super::posix::{ExecArgs, Streams};
use super::streams::dev_null;

/// `portable-pty` opens a terminal before it makes it close-on-exec: a program that is started in between would keep our end open,
/// and the terminal would never hang up. So neither happens during the other.
static TERMINALS: RwLock<()> = RwLock::new(());

/// Signals are numbered from 1 to below this; Linux has the most.
const SIGNALS: c_int = 65;

/// What the child does after the standard library's own steps, in values that need no more than reading.
struct Steps {
    has_terminal: bool,
    more: Vec<RawFd>,
    descriptors: Option<&'static libc::rlimit>,
    file: CString,
    /// Arrays of C strings, which end with NULL.
    argv: *const *const c_char,
    env: *const *const c_char,
}

// SAFETY: the arrays are read by the child alone, while the thread that owns them waits for it.
unsafe impl Send for Steps {}
// SAFETY: as above.
unsafe impl Sync for Steps {}

/// Starts the program: in a session of its own, with no signal ignored or blocked, and nothing open but what `args` says.
/// Nothing comes with it that watches it.
///
/// Returns once the exec has happened. An error is the errno of whatever step failed in the child.
pub(super) fn start(args: &ExecArgs<'_>) -> io::Result<(Pid, Option<OwnedFd>)> {
    hide_what_is_open();
    let _no_terminal_is_made = TERMINALS.read();
    let (argv, env) = (args.argv.pointers(), args.env.pointers());
    let mut command = Command::new(OsStr::from_bytes(args.file.to_bytes()));
    command.current_dir(OsStr::from_bytes(args.cwd.to_bytes()));
    let has_terminal = match &args.streams {
        Streams::Each(fds) => {
            let [stdin, stdout, stderr] = fds.map(stream);
            command.stdin(stdin?).stdout(stdout?).stderr(stderr?);
            false
        }
        Streams::Terminal(path) => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NOCTTY);
            let terminal = options.open(Path::new(OsStr::from_bytes(path.to_bytes())))?;
            let copy = || terminal.try_clone().map(Stdio::from);
            command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
            true
        }
    };
    let steps = Steps {
        has_terminal,
        more: args.more.iter().map(AsRawFd::as_raw_fd).collect(),
        descriptors: descriptor_limit::of_programs(),
        file: args.file.to_owned(),
        argv: argv.as_ptr().cast(),
        env: env.as_ptr().cast(),
    };
    let _kept_free = occupied(steps.more.len())?;
    // SAFETY: `child` makes only calls that are async-signal-safe, and neither allocates nor locks.
    #[expect(clippy::disallowed_methods, reason = "the portable way forks; Linux has another")]
    unsafe {
        command.pre_exec(move || Err(child(&steps)));
    }
    let started = command.spawn()?;
    Ok((Pid::from_child(&started), None))
}

fn stream(fd: BorrowedFd<'_>) -> io::Result<Stdio> {
    Ok(fd.try_clone_to_owned()?.into())
}

/// Descriptors on all the numbers that the child's further ones get, so that nothing that the standard library opens for the start
/// has one of those.
fn occupied(count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    if count > 0 {
        let end = 3 + RawFd::try_from(count).map_err(io::Error::other)?;
        loop {
            let copy = rustix::io::fcntl_dupfd_cloexec(dev_null()?, 3)?;
            if copy.as_raw_fd() >= end {
                break;
            }
            held.push(copy);
        }
    }
    Ok(held)
}

/// What the child does when its streams and directory are as they are to be: it becomes the program, or says why not. Left to
/// itself, the standard library would hand a file that is no program to a shell.
fn child(steps: &Steps) -> io::Error {
    // SAFETY: the calls are async-signal-safe and get what their manual pages ask for; the arrays live, since the parent waits.
    unsafe {
        if libc::setsid() < 0
            || (steps.has_terminal && libc::ioctl(0, libc::TIOCSCTTY as _, 0) < 0)
            || !gives_more(&steps.more)
        {
            return io::Error::last_os_error();
        }
        for signal in 1..SIGNALS {
            // Some can't be changed, or are the system's own; those that are handled become default by the exec.
            let mut now: libc::sigaction = std::mem::zeroed();
            let asked = libc::sigaction(signal, std::ptr::null(), &raw mut now);
            if asked == 0 && now.sa_sigaction == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        if let Some(limit) = steps.descriptors
            && libc::setrlimit(libc::RLIMIT_NOFILE, limit) < 0
        {
            return io::Error::last_os_error();
        }
        libc::execve(steps.file.as_ptr(), steps.argv, steps.env);
    }
    io::Error::last_os_error()
}

/// Gives the child these descriptors as 3, 4, and so on.
fn gives_more(fds: &[RawFd]) -> bool {
    // SAFETY: their numbers are beyond those that are given, so that none is overwritten before it was given.
    fds.iter().zip(3..).all(|(fd, number)| unsafe { libc::dup2(*fd, number) >= 0 })
}

/// Keeps from the program what this process was itself started with, and what somebody opened without care. What this crate opens
/// is close-on-exec from the beginning.
fn hide_what_is_open() {
    let numbers = std::fs::read_dir("/dev/fd").into_iter().flatten();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: it is only marked, and only if it is open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}

/// Our end of a new terminal of this size (close-on-exec), and the path of the child's end.
pub(super) fn open_terminal(rows: u16, cols: u16) -> io::Result<(OwnedFd, CString)> {
    let _nothing_is_started = TERMINALS.write();
    let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).map_err(io::Error::other)?;
    let missing = || io::Error::other("the terminal has no number or no name");
    let number = pair.master.as_raw_fd().ok_or_else(missing)?;
    // SAFETY: the pair owns it, and lives until after the copy was made.
    let master = rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, 3)?;
    let path = pair.master.tty_name().ok_or_else(missing)?;
    // Where nobody has the other end open yet, some systems take our end for hung up.
    drop(pair);
    Ok((master, CString::new(path.into_os_string().as_bytes())?))
}
