//! Where a program's sockets listen in truth: in a file system of their own that no path leads to.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::sandbox::launcher::mounts;

/// Of directories there.
const MODE: Mode = Mode::from_raw_mode(0o755);
/// The name of what nobody means. A program sees it where it asks for the name of a socket that it has not bound.
const UNBOUND: &str = "unbound";
/// As many connections may wait as the kernel lets; the program's own `listen` says its number later.
const QUEUE: i32 = 4096;

/// The file system, and what is needed to come back from it.
pub(super) struct Private {
    tree: OwnedFd,
    view: OwnedFd,
    /// The last number that was given to a listening socket.
    last: u64,
    /// What sockets are joined to that are not bound or connected yet, by kind.
    nobody: Vec<(SocketType, OwnedFd)>,
}

/// A listening socket, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u64);

impl Number {
    fn name(self) -> String {
        format!("s{}", self.0)
    }
}

impl Private {
    /// Makes it; `view` is this process's root.
    pub(super) fn new(view: OwnedFd) -> io::Result<Self> {
        Ok(Self { tree: mounts::memory(c"0755")?, view, last: 0, nobody: Vec::new() })
    }

    /// A socket that is neither bound nor connected, as far as a program can tell. For the kernel it is joined for good and
    /// has a name, so it does neither.
    pub(super) fn unbound(&mut self, kind: SocketType) -> Result<OwnedFd, Errno> {
        let name = format!("{UNBOUND}{}", kind.as_raw());
        if !self.nobody.iter().any(|(of, _)| *of == kind) {
            let listener = self.listen_at(Path::new(UNBOUND), kind, &name)?;
            self.nobody.push((kind, listener));
        }
        let (_, nobody) = self.nobody.iter().find(|(of, _)| *of == kind).ok_or(Errno::IO)?;
        let one = socket(kind)?;
        let name = SocketAddrUnix::new(name.as_str())?;
        rustix::process::fchdir(&self.tree)?;
        let joined = rustix::net::connect(&one, &name)
            .and_then(|()| rustix::net::accept_with(nobody, SocketFlags::CLOEXEC));
        rustix::process::fchdir(&self.view)?;
        joined
    }

    /// A socket that listens, and says this name when it is asked for its own.
    pub(super) fn listen(&mut self, kind: SocketType, name: &Path) -> Result<(OwnedFd, Number), Errno> {
        self.last += 1;
        let number = Number(self.last);
        Ok((self.listen_at(name, kind, &number.name())?, number))
    }

    /// Binds in an empty root, in which any name can be bound, then puts the file where it is found again.
    fn listen_at(&self, name: &Path, kind: SocketType, to: &str) -> Result<OwnedFd, Errno> {
        let socket = socket(kind)?;
        let address = SocketAddrUnix::new(name)?;
        let within = || -> Result<(), Errno> {
            for parent in parents(name) {
                match rustix::fs::mkdirat(CWD, parent, MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            rustix::process::umask(Mode::empty());
            rustix::net::bind(&socket, &address)?;
            rustix::fs::renameat(CWD, name, &self.tree, to)
        };
        rustix::fs::mkdirat(&self.tree, "root", MODE)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.tree, "root", flags, Mode::empty())?;
        let done = enter(root.as_fd()).and_then(|()| within());
        for parent in parents(name).into_iter().rev() {
            let _ = rustix::fs::unlinkat(CWD, parent, rustix::fs::AtFlags::REMOVEDIR);
        }
        enter(self.view.as_fd())?;
        rustix::fs::unlinkat(&self.tree, "root", rustix::fs::AtFlags::REMOVEDIR)?;
        done?;
        rustix::net::listen(&socket, QUEUE)?;
        Ok(socket)
    }

    /// A socket that is joined to a listening one; `EAGAIN` if too many wait for that already.
    pub(super) fn connect(&self, kind: SocketType, to: Number) -> Result<OwnedFd, Errno> {
        let socket = socket(kind)?;
        let address = SocketAddrUnix::new(to.name().as_str())?;
        rustix::process::fchdir(&self.tree)?;
        let connected = rustix::net::connect(&socket, &address);
        rustix::process::fchdir(&self.view)?;
        connected.map(|()| socket)
    }

    /// Forgets a name that nobody asks for any more.
    pub(super) fn forget(&self, number: Number) {
        let _ = rustix::fs::unlinkat(&self.tree, number.name(), rustix::fs::AtFlags::empty());
    }
}

/// Makes a directory the root and the working directory.
pub(super) fn enter(root: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")
}

/// It waits for nobody.
fn socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
}

/// The directories that a name is in, outermost first.
fn parents(name: &Path) -> Vec<&Path> {
    let mut parents: Vec<&Path> = name
        .ancestors()
        .skip(1)
        .filter(|path| !path.as_os_str().is_empty() && *path != Path::new("/"))
        .collect();
    parents.reverse();
    parents
}

/// Whether it is one of [`Private::unbound`]'s, or was bound by this name, which is as good.
pub(super) fn is_unbound(socket: impl AsFd) -> bool {
    // SAFETY: plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_un>()).unwrap_or(0);
    // SAFETY: the address is alive, and as long as it says.
    let answer =
        unsafe { libc::getsockname(socket.as_fd().as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    let name = UNBOUND.bytes().chain([0]);
    answer == 0 && address.sun_path.iter().zip(name).all(|(there, own)| there.to_ne_bytes() == [own])
}
