//! What a program talks through: pipes or a terminal, made before it starts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// What a program talks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// One pipe for stdout and one for stderr; stdin is a pipe too, or `/dev/null`.
    Pipes {
        /// Whether stdin is a pipe.
        stdin: bool,
    },
    /// One terminal for all three, which is the program's controlling terminal.
    Terminal {
        /// Its height in characters.
        rows: u16,
        /// Its width in characters.
        cols: u16,
    },
}

/// Our ends of a program's streams, non-blocking and close-on-exec.
#[derive(Debug)]
pub enum Ends {
    /// Our ends of [`Stdio::Pipes`].
    Pipes {
        /// Writes to the program's stdin; `None` if that is `/dev/null`.
        stdin: Option<OwnedFd>,
        /// Our end of its stdout, for reading.
        stdout: OwnedFd,
        /// Our end of its stderr, for reading.
        stderr: OwnedFd,
    },
    /// Our end of [`Stdio::Terminal`].
    Terminal {
        /// Reads what the program prints, and writes what it reads.
        master: OwnedFd,
    },
}

/// Both ends of a program's pipes.
pub(crate) struct Pipes {
    ours: Ends,
    stdin: Option<OwnedFd>,
    dev_null: BorrowedFd<'static>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Pipes {
    pub(crate) fn new(with_stdin: bool) -> io::Result<Self> {
        let (our_stdin, stdin) = if with_stdin {
            let (theirs, ours) = pipe()?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            (Some(ours), Some(above_stdio(theirs)?))
        } else {
            (None, None)
        };
        let (our_stdout, stdout) = output_pipe()?;
        let (our_stderr, stderr) = output_pipe()?;
        let ours = Ends::Pipes { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr };
        Ok(Self { ours, stdin, dev_null: dev_null()?, stdout, stderr })
    }

    /// The child's ends, for its descriptors 0, 1 and 2.
    pub(crate) fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        let stdin = self.stdin.as_ref().map_or(self.dev_null, OwnedFd::as_fd);
        [stdin, self.stdout.as_fd(), self.stderr.as_fd()]
    }

    /// Our ends; the child's are closed.
    pub(crate) fn into_ours(self) -> Ends {
        self.ours
    }
}

/// A pipe, reader first; both ends are close-on-exec.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// A pipe: our end, for reading, and the program's. Only ours is non-blocking, since programs don't expect that of stdout.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, above_stdio(theirs)?))
}

/// The same open file with a number above 2, so that the child's 0, 1 and 2 can't overwrite it. New descriptors get those
/// numbers if the server was started with one of its own closed.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?) }
}

/// `/dev/null`, opened once for all programs.
pub(crate) fn dev_null() -> io::Result<BorrowedFd<'static>> {
    static DEV_NULL: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = DEV_NULL.get() {
        return Ok(fd.as_fd());
    }
    let opened = std::fs::File::open("/dev/null")?;
    let opened = above_stdio(opened.into())?;
    Ok(DEV_NULL.get_or_init(|| opened).as_fd())
}
