//! The thread that waits for an answer: what it wrote where, which descriptors it has, and as whom it asks.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

/// A thread. What is said of it is of another one, once it waits no more.
pub(super) struct Asker {
    thread: i32,
    directory: OwnedFd,
}

/// Whom a thread passes for where files are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) groups: Vec<u32>,
    /// The modes that its new files don't get.
    pub(super) mask: u32,
    process: Pid,
}

impl Asker {
    /// The one with this number now. Whether it still waits has to be asked afterwards.
    pub(super) fn open(thread: u32) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, format!("/proc/{thread}"), flags, Mode::empty())?;
        Ok(Self { thread: thread.cast_signed(), directory })
    }

    fn read(&self, name: &str) -> Result<String, Errno> {
        let file =
            rustix::fs::openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).map_err(system)?;
        Ok(text)
    }

    /// What is at a place of its memory. (Its file in `/proc` is another user's, if it may not be looked into.)
    pub(super) fn memory(&self, place: u64, into: &mut [u8]) -> Result<(), Errno> {
        let place = usize::try_from(place).map_err(|_| Errno::FAULT)?;
        let length = into.len();
        let ours = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: length };
        let theirs = libc::iovec { iov_base: std::ptr::without_provenance_mut(place), iov_len: length };
        // SAFETY: the kernel writes at most as many bytes as `into` has; the other place is not in this process.
        let read =
            unsafe { libc::process_vm_readv(self.thread, &raw const ours, 1, &raw const theirs, 1, 0) };
        match usize::try_from(read) {
            Ok(read) if read == length => Ok(()),
            Ok(_) => Err(Errno::FAULT),
            Err(_) => Err(system(std::io::Error::last_os_error())),
        }
    }

    /// A path as it means it.
    pub(super) fn path<'p>(&self, path: &'p Path) -> Result<Meant<'p>, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cwd = || rustix::fs::openat(&self.directory, "cwd", flags, Mode::empty());
        Ok(Meant { cwd: if path.is_absolute() { None } else { Some(cwd()?) }, path })
    }

    /// As whom it asks.
    pub(super) fn identity(&self) -> Result<Identity, Errno> {
        Identity::parse(&self.read("status")?).ok_or(Errno::SRCH)
    }

    /// A copy of a socket of its process.
    pub(super) fn socket(&self, number: i32, identity: &Identity) -> Result<OwnedFd, Errno> {
        // Nothing else is copied: to close a file may take as long as its file system likes.
        match rustix::fs::readlinkat(&self.directory, format!("fd/{number}"), Vec::new()) {
            Ok(link) if !link.to_bytes().starts_with(b"socket:") => return Err(Errno::NOTSOCK),
            // As with its memory.
            Ok(_) | Err(Errno::ACCESS) => {}
            Err(Errno::NOENT) => return Err(Errno::BADF),
            Err(errno) => return Err(errno),
        }
        let process = rustix::process::pidfd_open(identity.process, PidfdFlags::empty())?;
        rustix::process::pidfd_getfd(process, number, PidfdGetfdFlags::empty())
    }

    /// Whether a descriptor is closed when it executes something.
    pub(super) fn closes_at_exec(&self, number: i32) -> Result<bool, Errno> {
        let facts = match self.read(&format!("fdinfo/{number}")) {
            // Before Linux 5.14, of one that may not be looked into.
            Err(Errno::ACCESS) => return Ok(true),
            facts => facts?,
        };
        let flags = facts.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
        Ok(flags.ok_or(Errno::BADF)? & libc::O_CLOEXEC != 0)
    }
}

/// A path, and where it is followed from.
pub(super) struct Meant<'p> {
    cwd: Option<OwnedFd>,
    pub(super) path: &'p Path,
}

impl Meant<'_> {
    /// What it leads to. The name of a descriptor, which would be this process's, leads nowhere.
    pub(super) fn find(&self) -> Result<OwnedFd, Errno> {
        self.follow(self.path, OFlags::empty())
    }

    /// The directory in which it names something, and the name.
    pub(super) fn place(&self) -> Result<(OwnedFd, &Path), Errno> {
        let (directory, name) = split(self.path)?;
        Ok((self.follow(directory, OFlags::DIRECTORY)?, name))
    }

    fn follow(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let from = self.cwd.as_ref().map_or(CWD, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        rustix::fs::openat2(from, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    }
}

impl Identity {
    /// From a process's `status`.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| -> Option<Vec<u32>> {
            field(name)?.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        // Real, effective, saved, and for files.
        Some(Self {
            user: *numbers("Uid:")?.get(3)?,
            group: *numbers("Gid:")?.get(3)?,
            groups: numbers("Groups:")?,
            mask: u32::from_str_radix(field("Umask:")?.trim(), 8).ok()?,
            process: Pid::from_raw(field("Tgid:")?.trim().parse().ok()?)?,
        })
    }
}

fn system(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// The directory and the last name of a path for a new file.
fn split(path: &Path) -> Result<(&Path, &Path), Errno> {
    let bytes = path.as_os_str().as_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, name) = bytes.split_at(at);
    let path = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
    match name {
        b"" => Err(Errno::NOENT),
        b"." | b".." => Err(Errno::ADDRINUSE),
        _ if directory.is_empty() => Ok((Path::new("."), path(name))),
        _ => Ok((path(directory), path(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_as_whom_a_thread_asks() {
        let status = "Name:\tx\nUmask:\t0027\nTgid:\t7\nPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11 \n";
        let identity = Identity::parse(status).expect("whole");
        let Identity { user, group, groups, mask, process } = identity;
        assert_eq!((user, group, groups, mask, process.as_raw_pid()), (4, 8, vec![10, 11], 0o27, 7));
        for part in ["Umask", "Tgid", "Uid", "Gid", "Groups"] {
            assert_eq!(Identity::parse(&status.replace(part, "Other")), None, "{part}");
        }
    }

    #[test]
    fn a_new_file_has_a_directory_and_a_name() {
        for (path, expected) in [
            ("a", Ok((".", "a"))),
            ("/a", Ok(("/", "a"))),
            ("/w/../x/a.sock", Ok(("/w/../x/", "a.sock"))),
            ("w/", Err(Errno::NOENT)),
            ("w/..", Err(Errno::ADDRINUSE)),
        ] {
            let split = split(Path::new(path));
            assert_eq!(split, expected.map(|(directory, name)| (Path::new(directory), Path::new(name))));
        }
    }
}
