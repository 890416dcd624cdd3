//! Starts a program by `posix_spawn`, where our own way ([`super::vfork`]) is not to be had; and what both need.
//!
//! glibc makes it of `CLONE_VM | CLONE_VFORK`, so its cost does not grow with our memory as that of fork does.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use libc::{c_char, c_int};
use rustix::process::Pid;

/// What the child's 0, 1 and 2 are.
#[derive(Debug)]
pub enum Streams<'a> {
    /// These, in order. None may itself be 0, 1 or 2, or one would overwrite the next.
    Each([BorrowedFd<'a>; 3]),
    /// The terminal at this path, which becomes the controlling one.
    Terminal(&'a CStr),
}

/// All that a start needs, in C's words.
#[derive(Debug)]
pub struct ExecArgs<'a> {
    /// The file to execute; a relative one starts from `cwd`.
    pub file: &'a CStr,
    /// What it gets as its arguments, its own name first.
    pub argv: &'a Strings,
    /// Its whole environment, as `NAME=value`.
    pub env: &'a Strings,
    /// Its working directory; absolute.
    pub cwd: &'a CStr,
    /// Its stdin, stdout and stderr.
    pub streams: Streams<'a>,
    /// What the child has open from 3 on. None may have a number below 3 plus how many they are.
    pub more: &'a [BorrowedFd<'a>],
}

/// A list of C strings in one allocation.
#[derive(Debug, Default)]
pub struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// Somewhere in a string there was a NUL, which ends a string in C.
#[derive(Debug)]
pub struct NulByte;

impl Strings {
    /// Adds the parts, joined, as one string.
    ///
    /// # Errors
    /// When a part contains a NUL byte.
    pub fn push(&mut self, parts: &[&OsStr]) -> Result<(), NulByte> {
        self.starts.push(self.bytes.len());
        for part in parts {
            if memchr::memchr(0, part.as_bytes()).is_some() {
                return Err(NulByte);
            }
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.push(0);
        Ok(())
    }

    /// The NULL-terminated array that exec takes; valid as long as `self` is neither changed nor dropped.
    pub(super) fn pointers(&self) -> Vec<*mut c_char> {
        let strings = self.starts.iter().map(|start| self.bytes[*start..].as_ptr().cast_mut().cast());
        strings.chain([std::ptr::null_mut()]).collect()
    }
}

/// Starts the program: in a session of its own, with no signal ignored or blocked, and nothing open but 0, 1 and 2.
///
/// Returns once the exec has happened. An error is the errno of whatever step failed in the child.
pub(super) fn start(args: &ExecArgs<'_>) -> io::Result<Pid> {
    let attributes = Attributes::new()?;
    let mut actions = Actions::new()?;
    // The child is in its new session by the time of the first action, so a terminal it opens is its controlling one.
    match &args.streams {
        Streams::Each(fds) => {
            for (fd, target) in fds.iter().zip(0..) {
                actions.dup2(fd.as_raw_fd(), target)?;
            }
        }
        Streams::Terminal(path) => {
            actions.open(0, path)?;
            actions.dup2(0, 1)?;
            actions.dup2(0, 2)?;
        }
    }
    let mut next = 3;
    for fd in args.more {
        actions.dup2(fd.as_raw_fd(), next)?;
        next += 1;
    }
    // Ours are close-on-exec, but whoever started the server may have left others open.
    actions.close_from(next)?;
    actions.chdir(args.cwd)?;
    let (argv, env) = (args.argv.pointers(), args.env.pointers());
    let mut pid = 0;
    // SAFETY: all pointers are to live values of the right types; both arrays end with NULL and their strings with NUL.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            args.file.as_ptr(),
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn gave no pid"))
}

/// Makes this process another program; returns only when that fails.
///
/// SIGPIPE, which Rust's runtime ignores, is as it was; handlers end by themselves.
pub fn replace<'a>(
    file: &CStr,
    argv: impl Iterator<Item = &'a OsStr>,
    env: &[(OsString, OsString)],
) -> io::Error {
    let list = || {
        let (mut arguments, mut variables) = (Strings::default(), Strings::default());
        for argument in argv {
            arguments.push(&[argument])?;
        }
        for (name, value) in env {
            variables.push(&[name, OsStr::new("="), value])?;
        }
        Ok::<_, NulByte>((arguments, variables))
    };
    let Ok((arguments, variables)) = list() else { return io::Error::from_raw_os_error(libc::EINVAL) };
    let (argv, env) = (arguments.pointers(), variables.pointers());
    // SAFETY: no handler of ours is replaced; both arrays end with NULL, their strings with NUL, and all are alive.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(file.as_ptr(), argv.as_ptr().cast(), env.as_ptr().cast());
    }
    io::Error::last_os_error()
}

/// The same file under this number, for children to inherit; whatever had the number is closed.
///
/// # Errors
/// When the number is beyond what this process may have open.
pub fn inherit(fd: &OwnedFd, number: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the number is the caller's to give away, and from now on nobody else's.
    unsafe {
        if libc::dup2(fd.as_raw_fd(), number) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

fn check(errno: c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

struct Attributes(MaybeUninit<libc::posix_spawnattr_t>);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: init makes a value of whatever is there.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        let mut new = Self(raw);
        let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
        let flags = c_int::from(libc::POSIX_SPAWN_SETSID)
            | libc::POSIX_SPAWN_SETSIGDEF
            | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        // SAFETY: the attributes are initialized, and the set is filled before it is read, both times; a set is bits,
        // of which every pattern is a value.
        unsafe {
            check(libc::posix_spawnattr_setflags(new.0.as_mut_ptr(), flags))?;
            // Not `sigfillset`: it leaves out glibc's own two, and those the spawn would then set to be ignored.
            signals.as_mut_ptr().write_bytes(0xff, 1);
            check(libc::posix_spawnattr_setsigdefault(new.0.as_mut_ptr(), signals.as_ptr()))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(new.0.as_mut_ptr(), signals.as_ptr()))?;
        }
        Ok(new)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialized in `new`, and not used again.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

struct Actions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: init makes a value of whatever is there.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        Ok(Self(raw))
    }

    fn dup2(&mut self, from: c_int, to: c_int) -> io::Result<()> {
        // SAFETY: initialized in `new`.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), from, to) })
    }

    fn open(&mut self, to: c_int, path: &CStr) -> io::Result<()> {
        // SAFETY: initialized in `new`; the path is copied.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(self.0.as_mut_ptr(), to, path.as_ptr(), libc::O_RDWR, 0)
        })
    }

    fn close_from(&mut self, first: c_int) -> io::Result<()> {
        // SAFETY: initialized in `new`.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(self.0.as_mut_ptr(), first) })
    }

    fn chdir(&mut self, path: &CStr) -> io::Result<()> {
        // SAFETY: initialized in `new`; the path is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(self.0.as_mut_ptr(), path.as_ptr()) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialized in `new`, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}
