//! The arguments of a start as C strings, and what a child does before it becomes another program.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use libc::{c_char, c_int};

/// What the child gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Streams<'a> {
    /// These, in order. None may itself be 0, 1 or 2, or one would overwrite the next.
    Each([BorrowedFd<'a>; 3]),
    /// The terminal at this path, which becomes the controlling terminal.
    Terminal(&'a CStr),
}

/// All that a start needs, as C strings and descriptors.
#[derive(Debug)]
pub struct ExecArgs<'a> {
    /// The file to execute; a relative one starts from `cwd`.
    pub file: &'a CStr,
    /// Its arguments, its own name first.
    pub argv: &'a Strings,
    /// Its whole environment, as `NAME=value`.
    pub env: &'a Strings,
    /// Its working directory; absolute.
    pub cwd: &'a CStr,
    /// Its stdin, stdout and stderr.
    pub streams: Streams<'a>,
    /// The descriptors that the child has as 3, 4, and so on. None may have a number below 3 plus their count, or one would
    /// overwrite another.
    pub more: &'a [BorrowedFd<'a>],
}

/// A list of C strings in one allocation.
#[derive(Debug, Default)]
pub struct Strings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// A string contains a NUL, which would end it in C.
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

/// How far above its number a file is kept meanwhile: beyond all numbers that are given away at the same time.
const APART: c_int = 16;

/// A file under a number that children inherit. Dropped, the number leads again to what it led to before.
#[derive(Debug)]
pub struct Inherited {
    number: c_int,
    before: Option<OwnedFd>,
}

/// The same file under this number, for children to inherit. Meanwhile nothing else may use the number.
///
/// # Errors
/// When the number is beyond what this process may have open, or nothing more can be.
pub fn inherit(fd: &OwnedFd, number: c_int) -> io::Result<Inherited> {
    // SAFETY: the copy is a descriptor of its own, or an errno. The number is given back when the guard is dropped.
    unsafe {
        let before = match libc::fcntl(number, libc::F_DUPFD_CLOEXEC, number + APART) {
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EBADF) => None,
            -1 => return Err(io::Error::last_os_error()),
            copy => Some(OwnedFd::from_raw_fd(copy)),
        };
        if libc::dup2(fd.as_raw_fd(), number) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Inherited { number, before })
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        // SAFETY: the previous owner gets the same file under this number again; without one, the number is closed.
        unsafe {
            match &self.before {
                Some(before) => {
                    libc::dup2(before.as_raw_fd(), self.number);
                    libc::fcntl(self.number, libc::F_SETFD, libc::FD_CLOEXEC);
                }
                None => {
                    libc::close(self.number);
                }
            }
        }
    }
}
