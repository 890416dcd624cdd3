//! Carries output to files that the sandbox doesn't let the program write: it gets a pipe instead, as with `| cat > file`.
//! Through the file's own descriptor it could also change what the file held before, and its mode.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;

use codex_exec_server::sandbox::{Access, Files, Policy, spare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// How much is carried at once (bytes): what a pipe holds.
const PIECE: usize = 64 << 10;
/// Where programs have files of their own under the name of those outside.
const PRIVATE: &str = "/dev/shm";

/// What has to be carried, and what the program gets instead of its stdout and stderr.
#[derive(Default)]
pub(super) struct Relays {
    waiting: Vec<(OwnedFd, File)>,
    pub(super) outputs: [Option<OwnedFd>; 2],
}

/// Relays under way.
pub(super) struct Running {
    /// Closed when the program has ended.
    stop: OwnedFd,
    carriers: Vec<JoinHandle<io::Result<()>>>,
}

impl Relays {
    /// For those of this process's stdout and stderr that a program under the policy can't be given.
    ///
    /// # Errors
    /// The system's, such as no more descriptors.
    pub(super) fn of(policy: &Policy) -> io::Result<Self> {
        let mut relays = Self::default();
        if policy.files == Files::All {
            return Ok(relays);
        }
        let outputs = [rustix::stdio::stdout(), rustix::stdio::stderr()];
        for (index, output) in outputs.into_iter().enumerate() {
            if !is_needed(output, index + 1, policy)? {
                continue;
            }
            // One file gets both in the order they are written in.
            if let (1, Some(pipe)) = (index, &relays.outputs[0])
                && is_same(outputs[0], output)?
            {
                relays.outputs[1] = Some(spare(pipe)?);
                continue;
            }
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            relays.waiting.push((spare(&ours)?, File::from(spare(output)?)));
            relays.outputs[index] = Some(spare(&theirs)?);
        }
        Ok(relays)
    }

    /// Begins; the program has its ends by now.
    ///
    /// # Errors
    /// The system's, when there are no more descriptors or threads.
    pub(super) fn start(self) -> io::Result<Running> {
        drop(self.outputs);
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut carriers = Vec::new();
        for (from, to) in self.waiting {
            let stopped = stopped.try_clone()?;
            carriers.push(std::thread::Builder::new().spawn(move || carry(File::from(from), to, &stopped))?);
        }
        Ok(Running { stop, carriers })
    }
}

impl Running {
    /// Carries the rest of what the program wrote until its end. What it left running has nobody who listens any more.
    ///
    /// # Errors
    /// When a file could not be written.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.stop);
        self.carriers.into_iter().try_for_each(|carrier| {
            carrier.join().unwrap_or_else(|_| Err(io::Error::other("what carries it has ended")))
        })
    }
}

/// Whether a descriptor is open for writing to a file that has a name, under which the policy lets nobody write it.
fn is_needed(output: BorrowedFd<'_>, number: usize, policy: &Policy) -> io::Result<bool> {
    let found = match fstat(output) {
        Err(Errno::BADF) => return Ok(false),
        found => found?,
    };
    let writes = rustix::fs::fcntl_getfl(output)?.intersects(OFlags::WRONLY | OFlags::RDWR);
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_nlink == 0 || !writes {
        return Ok(false);
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{number}"))?;
    let is_writable = policy.files.access_at(&path) == Access::Write && !path.starts_with(Path::new(PRIVATE));
    Ok(!is_writable)
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Until the other end is closed, or nothing is left of what was there when it was stopped.
fn carry(mut from: File, mut to: File, stopped: &OwnedFd) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = None;
    while left != Some(0) {
        if left.is_none() {
            let mut polled = [PollFd::new(&from, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
            if !polled[1].revents().is_empty() {
                left = Some(usize::try_from(rustix::io::ioctl_fionread(&from)?).unwrap_or(usize::MAX));
                continue;
            }
        }
        let most = left.unwrap_or(PIECE).min(PIECE);
        match from.read(&mut piece[..most]) {
            Ok(0) => return Ok(()),
            Ok(got) => {
                to.write_all(&piece[..got])?;
                left = left.map(|left| left - got);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
