//! What the program gets as stdin, stdout and stderr. Whoever opened them did so outside of its view, so a descriptor could
//! be used to change the mode, owner or attributes of the file behind it, to reach what is around a directory, or to talk to
//! others over a socket. What has a name is opened anew in the view; what can't be is refused.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::mounts;
use crate::sandbox::task::{Failure, Namespaces, NetworkWalls, Stage, Walls};

const NAMES: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Whole families of devices by major number: memory, consoles and `/dev/tty`, terminals. Opening one of these once more
/// does nothing else.
const MEMORY: u32 = 1;
const CONSOLES: u32 = 4;
const TERMINALS: u32 = 5;
const PSEUDO_TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;
/// Every view has it.
const NULL: &str = "/dev/null";
/// `/dev/ptmx` among [`TERMINALS`]: opened once more it is another one.
const MULTIPLEXER: u32 = 2;

/// Those of the three that have to be opened anew once the view stands.
pub(super) struct Given(Vec<Stream>);

struct Stream {
    index: usize,
    found: Stat,
    flags: OFlags,
    path: PathBuf,
    /// The file itself on a mount of its own, read-only: for one that the view has not. None for a directory.
    apart: Option<OwnedFd>,
}

/// Looks at the three, refuses what can't be given, and holds on to what the view may hide. To be called when mounts are
/// already apart from those outside, and nothing is hidden yet.
pub(super) fn look(walls: &Walls) -> Result<Given, Failure> {
    let mut given = Vec::new();
    for index in 0..NAMES.len() {
        let look = || Stream::look(index, walls);
        given.extend(look().map_err(|refusal| refusal.about(index))?);
    }
    Ok(Given(given))
}

/// Why a descriptor can't be given.
enum Refusal {
    System(Errno),
    /// What it is, by which it would lead out.
    Is(&'static str),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Refusal {
    fn about(&self, index: usize) -> Failure {
        let name = NAMES[index];
        match self {
            Self::System(errno) => {
                Failure::new(Stage::Confine, format!("open its {name} anew"), &(*errno).into())
            }
            Self::Is(what) => {
                let (way, error) = (if index == 0 { "from" } else { "into" }, io::Error::from(Errno::PERM));
                let text = format!("give it as {name} {what}: use a pipe {way} cat instead");
                Failure::new(Stage::Confine, text, &error)
            }
        }
    }
}

impl Stream {
    /// None if there is nothing to do about it.
    fn look(index: usize, walls: &Walls) -> Result<Option<Self>, Refusal> {
        let fd = descriptor(index);
        let found = match rustix::fs::fstat(fd) {
            Err(Errno::BADF) => return Ok(None),
            found => found?,
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Socket {
            return may_keep_socket(fd, walls).map(|()| None);
        }
        // Where files are not restricted, `/proc` of outside is closed all the same, to which each directory there leads.
        let leads_to_others = walls.own_pids && kind == FileType::Directory;
        if !walls.restricts_files() && !leads_to_others {
            return Ok(None);
        }
        let flags = rustix::fs::fcntl_getfl(fd)?;
        if flags.contains(OFlags::PATH) {
            return Err(Refusal::Is("a descriptor that only names something"));
        }
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        let is_nameless = kind == FileType::RegularFile && found.st_nlink == 0;
        if walls.namespaces == Namespaces::None {
            // The filter keeps all files as they are, but for their content.
            let leads_to_content = kind == FileType::RegularFile && writes && !is_nameless;
            return if leads_to_content { Err(Refusal::Is(WRITABLE)) } else { Ok(None) };
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{index}"))?;
        // A pipe, or a file that nobody finds any more.
        if is_nameless || (kind == FileType::Fifo && !path.is_absolute()) {
            return Ok(None);
        }
        if kind == FileType::CharacterDevice && !opens_again(found.st_rdev) {
            return Err(Refusal::Is("a device that can't be opened once more"));
        }
        let mut stream = Self { index, found, flags, path, apart: None };
        // A directory has more below it than what the view shows; a file that is written can't be on a read-only mount.
        if kind != FileType::Directory
            && !(kind == FileType::RegularFile && writes)
            && stream.path != Path::new(NULL)
        {
            stream.apart = stream.on_a_mount_of_its_own()?;
        }
        Ok(Some(stream))
    }

    fn on_a_mount_of_its_own(&self) -> io::Result<Option<OwnedFd>> {
        let Some(file) = self.by_name() else { return Ok(None) };
        let tree = mounts::clone(&file)?;
        mounts::make_itself_read_only(&tree)?;
        Ok(Some(tree))
    }

    /// The same file by its name, as far as the name leads to it now and here.
    fn by_name(&self) -> Option<OwnedFd> {
        let file = mounts::open(&self.path).ok()?;
        let there = rustix::fs::fstat(&file).ok()?;
        ((there.st_dev, there.st_ino) == (self.found.st_dev, self.found.st_ino)).then_some(file)
    }

    /// Puts the same file, opened in the view, in its place.
    fn reopen(&self) -> Result<(), Refusal> {
        let kind = FileType::from_raw_mode(self.found.st_mode);
        let access = self.flags & OFlags::RWMODE;
        let inside = self.by_name();
        if kind == FileType::RegularFile && access != OFlags::RDONLY {
            // What it may open by name to write it may keep: its place in the file is shared with who gave it.
            return match inside.map(|file| open_again(&file, OFlags::WRONLY)) {
                Some(Ok(_)) => Ok(()),
                Some(Err(errno @ Errno::ACCESS)) => self.keep(errno),
                Some(Err(_)) | None => Err(Refusal::Is(WRITABLE)),
            };
        }
        if inside.is_none() && kind == FileType::Directory {
            return Err(Refusal::Is("a directory that the sandbox does not show"));
        }
        // No pipe with a name waits for its other end. A device that lies elsewhere is one only apart from the view.
        let mut opened = Err(Errno::NOENT);
        for file in inside.iter().chain(&self.apart) {
            opened = open_again(file, access | OFlags::NONBLOCK);
            if opened.is_ok() {
                break;
            }
        }
        let again = match opened {
            Ok(again) => again,
            Err(errno) => return self.keep(errno),
        };
        if kind == FileType::RegularFile {
            let at = rustix::fs::seek(descriptor(self.index), SeekFrom::Current(0))?;
            rustix::fs::seek(&again, SeekFrom::Start(at))?;
        }
        rustix::fs::fcntl_setfl(&again, self.flags)?;
        match self.index {
            0 => rustix::stdio::dup2_stdin(again)?,
            1 => rustix::stdio::dup2_stdout(again)?,
            _ => rustix::stdio::dup2_stderr(again)?,
        }
        Ok(())
    }

    /// Leaves it as it is, if it belongs to somebody else: then nothing about it can be changed by the program. An
    /// administrator's shell may have opened it for an ordinary user. Tried with the mode that it has.
    fn keep(&self, errno: Errno) -> Result<(), Refusal> {
        let is_directory = FileType::from_raw_mode(self.found.st_mode) == FileType::Directory;
        let same = Mode::from_raw_mode(self.found.st_mode & 0o7777);
        match rustix::fs::fchmod(descriptor(self.index), same) {
            Err(Errno::PERM | Errno::ROFS) if !is_directory => Ok(()),
            _ => Err(errno.into()),
        }
    }
}

const WRITABLE: &str = "a file that the sandbox does not let be written";

impl Given {
    /// Opens all of them anew, in the view.
    pub(super) fn reopen(self) -> Result<(), Failure> {
        for stream in self.0 {
            stream.reopen().map_err(|refusal| refusal.about(stream.index))?;
        }
        Ok(())
    }
}

fn descriptor(index: usize) -> BorrowedFd<'static> {
    match index {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    }
}

fn open_again(file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::openat(CWD, Path::new(&link), flags | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}

fn opens_again(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let is_multiplexer = major == TERMINALS && minor == MULTIPLEXER;
    [MEMORY, CONSOLES, TERMINALS].contains(&major) && !is_multiplexer || PSEUDO_TERMINALS.contains(&major)
}

/// A socket may stay if it can lead nowhere else: it is joined to its other end for good.
fn may_keep_socket(socket: BorrowedFd<'_>, walls: &Walls) -> Result<(), Refusal> {
    let is_free = walls.network == NetworkWalls::Open;
    if is_free && !walls.restricts_files() {
        return Ok(());
    }
    let family = sockopt::socket_domain(socket)?;
    let internet = [AddressFamily::INET, AddressFamily::INET6].contains(&family);
    if internet && is_free {
        return Ok(());
    }
    let joined = [SocketType::STREAM, SocketType::SEQPACKET].contains(&sockopt::socket_type(socket)?)
        && rustix::net::getpeername(socket).is_ok();
    // One of another network could be joined anew there.
    if joined && !(internet && walls.has_own_network()) {
        Ok(())
    } else {
        Err(Refusal::Is("a socket that may lead elsewhere"))
    }
}
