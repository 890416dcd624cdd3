//! Answers for a program, in the first process of its PID namespace: from the first question on in the program's view.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType};

use super::Handed;
use super::asker::{Asker, Identity, Meant};
use super::private::{self, Number, Private};
use super::requests::{CallOutcome, Listener, Request, number};
use crate::sandbox::launcher::capabilities;

/// How long a connection waits before it is tried anew, where too many wait for the listening socket.
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// Once the program has ended: how long until a look at who is left. Most often the kernel tells before.
const LATER: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// The most names at a time, each of which takes a descriptor of this process. A safeguard, far from any real use.
const MOST_NAMES: usize = 512;
/// The most connections that wait at a time. A safeguard, far from any real use.
const MOST_WAITING: usize = 256;
/// The longest address that the kernel takes (`sockaddr_storage`).
const LONGEST: usize = 128;
/// Of an address's family, before its name.
const HEAD: usize = 2;

/// Answers until nobody is left who could ask.
pub(super) fn serve(handed: Handed, program: Option<&OwnedFd>) -> io::Result<()> {
    let Handed { listener, root, mounts, no_network } = handed;
    let listener = Listener(listener);
    keep_rights(CapabilitySet::SYS_ADMIN)?;
    let mut view = Some((root, mounts));
    let mut supervisor: Option<Supervisor> = None;
    let mut waiting: Vec<Request> = Vec::new();
    let mut running = program;
    loop {
        let mut watched = vec![PollFd::new(&listener.0, PollFlags::IN)];
        watched.extend(running.map(|program| PollFd::new(program, PollFlags::IN)));
        let timeout = match (waiting.is_empty(), running) {
            (false, _) => Some(&SOON),
            (true, None) => Some(&LATER),
            (true, Some(_)) => None,
        };
        retry_on_intr(|| poll(&mut watched, timeout))?;
        let [asked, ended] = [0, 1].map(|at| watched.get(at).map_or(PollFlags::empty(), PollFd::revents));
        if asked.contains(PollFlags::HUP) || (running.is_none() && is_alone()) {
            return Ok(());
        }
        if !ended.is_empty() {
            running = None;
        }
        let mut now = std::mem::take(&mut waiting);
        if asked.contains(PollFlags::IN) {
            now.extend(listener.receive()?);
        }
        if !now.is_empty()
            && let Some((root, mounts)) = view.take()
        {
            supervisor = Supervisor::enter(root, &mounts, no_network).ok();
        }
        for request in now {
            // Without its view nothing can be told from anything.
            let refused = Err(Errno::PERM);
            let answer =
                supervisor.as_mut().map_or(refused, |supervisor| supervisor.decide(&listener, &request));
            match answer {
                Ok(Some(answer)) => listener.answer(&request, answer),
                Ok(None) => {}
                Err(Errno::AGAIN) if waiting.len() < MOST_WAITING => waiting.push(request),
                Err(errno) => listener.answer(&request, CallOutcome::Fails(errno)),
            }
        }
    }
}

/// Whether the namespace has no other process any more, but perhaps one that its parent outside has not waited for.
fn is_alone() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(rustix::process::waitid(WaitId::All, options), Err(Errno::CHILD))
}

/// Gives up all rights but the program's, those to look into it, and more.
fn keep_rights(more: CapabilitySet) -> io::Result<()> {
    let wanted = capabilities::KEPT | CapabilitySet::SYS_CHROOT | CapabilitySet::SYS_PTRACE | more;
    let kept = rustix::thread::capabilities(None)?.permitted & wanted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What a program has named.
struct Supervisor {
    private: Private,
    /// By the device and number of the file that stands for each. It is held, so that no other file gets its number.
    names: HashMap<(u64, u64), (OwnedFd, Number)>,
    no_network: bool,
}

/// A socket file's address.
enum Address {
    /// A path.
    Path(PathBuf),
    /// A name that is no file's, or none.
    Abstract,
    /// Of another family.
    Other,
}

impl Supervisor {
    /// Moves to the program's view. Everything is looked up there from now on.
    fn enter(root: OwnedFd, mounts: &OwnedFd, no_network: bool) -> io::Result<Self> {
        rustix::thread::move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        private::enter(root.as_fd())?;
        let private = Private::new(root)?;
        keep_rights(CapabilitySet::empty())?;
        Ok(Self { private, names: HashMap::new(), no_network })
    }

    /// What becomes of a call; none if that is done already.
    ///
    /// # Errors
    /// What the call fails with. `EAGAIN` means later.
    fn decide(&mut self, listener: &Listener, request: &Request) -> Result<Option<CallOutcome>, Errno> {
        let [first, second, third, ..] = request.arguments;
        let asker = Asker::open(request.thread);
        if !listener.is_waiting(request) {
            // Nobody waits for an answer any more; the thread may be another.
            return Ok(None);
        }
        let asker = asker?;
        if request.call == libc::SYS_socket {
            return self.make(listener, request, number(second)).map(|()| None);
        }
        let path = match read_address(&asker, second, third) {
            // Also of a program that may not be looked into: its Unix sockets are out of use then.
            Ok(Address::Other) | Err(Errno::ACCESS | Errno::PERM) if self.no_network => {
                return Err(Errno::PERM);
            }
            Ok(Address::Other) | Err(Errno::ACCESS | Errno::PERM) => return Ok(Some(CallOutcome::GoesOn)),
            Ok(Address::Abstract) if request.call == libc::SYS_bind => return Err(Errno::PERM),
            Ok(Address::Abstract) => return Err(Errno::CONNREFUSED),
            Ok(Address::Path(path)) => path,
            Err(errno) => return Err(errno),
        };
        let identity = asker.identity()?;
        let old = asker.socket(number(first), &identity)?;
        if !listener.is_waiting(request) {
            return Ok(None);
        }
        if sockopt::socket_domain(&old)? != AddressFamily::UNIX {
            return Err(Errno::AFNOSUPPORT);
        }
        if !private::is_unbound(&old) || sockopt::socket_acceptconn(&old)? {
            let joined = request.call == libc::SYS_connect && rustix::net::getpeername(&old).is_ok();
            return Err(if joined { Errno::ISCONN } else { Errno::INVAL });
        }
        let kind = sockopt::socket_type(&old)?;
        let meant = asker.path(&path)?;
        let new = if request.call == libc::SYS_bind {
            self.bind(&identity, kind, &meant)?
        } else {
            match self.connect(&identity, kind, &meant) {
                // Its own `connect` would not wait either.
                Err(Errno::AGAIN) if !blocks(&old)? => return Ok(Some(CallOutcome::Fails(Errno::AGAIN))),
                other => other?,
            }
        };
        take_over(&old, &new)?;
        let at = number(first);
        let close_at_exec = asker.closes_at_exec(at)?;
        listener.replace(request, new.as_fd(), at.cast_unsigned(), close_at_exec)?;
        Ok(Some(CallOutcome::Done))
    }

    fn make(&mut self, listener: &Listener, request: &Request, kind: i32) -> Result<(), Errno> {
        let asked = kind & 0xf;
        let of_kind = [SocketType::STREAM, SocketType::SEQPACKET]
            .into_iter()
            .find(|one| i32::try_from(one.as_raw()) == Ok(asked));
        // Datagrams can be sent to any name. The other filter refuses them, too.
        let socket = self.private.unbound(of_kind.ok_or(Errno::PERM)?)?;
        rustix::io::ioctl_fionbio(&socket, kind & libc::SOCK_NONBLOCK != 0)?;
        listener.answer_with(request, socket.as_fd(), kind & libc::SOCK_CLOEXEC != 0)
    }

    /// A socket that listens for those who connect to this path, where a file stands for it.
    fn bind(&mut self, identity: &Identity, kind: SocketType, meant: &Meant<'_>) -> Result<OwnedFd, Errno> {
        if self.names.len() >= MOST_NAMES {
            self.forget_what_is_gone();
        }
        if self.names.len() >= MOST_NAMES {
            return Err(Errno::NOSPC);
        }
        let (socket, number) = self.private.listen(kind, meant.path)?;
        let made = as_asker(identity, || {
            let (directory, name) = meant.place()?;
            rustix::process::umask(Mode::from_raw_mode(identity.mask));
            let mode = Mode::from_raw_mode(0o777);
            match rustix::fs::mknodat(&directory, name, FileType::Socket, mode, 0) {
                Err(Errno::EXIST) => return Err(Errno::ADDRINUSE),
                made => made?,
            }
            // Should it be another file by now, that one stands for this socket: what it was is not looked at.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&directory, name, flags, Mode::empty())
        });
        let placeholder = made.inspect_err(|_| self.private.forget(number))?;
        let found = rustix::fs::fstat(&placeholder)?;
        self.names.insert((found.st_dev, found.st_ino), (placeholder, number));
        Ok(socket)
    }

    /// A socket that is joined to the one that a path stands for.
    fn connect(&self, identity: &Identity, kind: SocketType, meant: &Meant<'_>) -> Result<OwnedFd, Errno> {
        as_asker(identity, || {
            let file = meant.find()?;
            let found = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
                return Err(Errno::CONNREFUSED);
            }
            // Another's.
            let (_, number) = self.names.get(&(found.st_dev, found.st_ino)).ok_or(Errno::ACCESS)?;
            may_write(&file)?;
            self.private.connect(kind, *number)
        })
    }

    /// Lets go of files without a name, which nobody finds any more.
    fn forget_what_is_gone(&mut self) {
        let private = &self.private;
        self.names.retain(|_, (file, number)| {
            let is_there = rustix::fs::fstat(file).is_ok_and(|found| found.st_nlink > 0);
            if !is_there {
                private.forget(*number);
            }
            is_there
        });
    }
}

fn read_address(asker: &Asker, place: u64, length: u64) -> Result<Address, Errno> {
    let length = usize::try_from(number(length)).map_err(|_| Errno::INVAL)?;
    if length > LONGEST {
        return Err(Errno::INVAL);
    }
    let mut bytes = [0; LONGEST];
    let Some(bytes) = bytes.get_mut(..length) else { return Err(Errno::INVAL) };
    asker.memory(place, bytes)?;
    let Some((family, name)) = bytes.split_first_chunk::<HEAD>() else { return Ok(Address::Other) };
    if i32::from(u16::from_ne_bytes(*family)) != libc::AF_UNIX {
        return Ok(Address::Other);
    }
    if length > size_of::<libc::sockaddr_un>() {
        return Err(Errno::INVAL);
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    match name.get(..end) {
        None | Some([]) => Ok(Address::Abstract),
        Some(path) => Ok(Address::Path(OsStr::from_bytes(path).into())),
    }
}

fn blocks(socket: &OwnedFd) -> Result<bool, Errno> {
    Ok(!rustix::fs::fcntl_getfl(socket)?.contains(OFlags::NONBLOCK))
}

/// Sets what was set of the old socket.
fn take_over(old: &OwnedFd, new: &OwnedFd) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(new, !blocks(old)?)?;
    if sockopt::socket_passcred(old)? {
        sockopt::set_socket_passcred(new, true)?;
    }
    for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        if let Some(time) = sockopt::socket_timeout(old, which)? {
            sockopt::set_socket_timeout(new, which, Some(time))?;
        }
    }
    // The kernel says twice of what it was asked for.
    let (receives, sends) = (sockopt::socket_recv_buffer_size(old)?, sockopt::socket_send_buffer_size(old)?);
    if receives != sockopt::socket_recv_buffer_size(new)? {
        sockopt::set_socket_recv_buffer_size(new, receives / 2)?;
    }
    if sends != sockopt::socket_send_buffer_size(new)? {
        sockopt::set_socket_send_buffer_size(new, sends / 2)?;
    }
    Ok(())
}

/// Does something as the one who asks, in whose name files are made and connections seen.
fn as_asker<T>(identity: &Identity, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if own == (identity.user, identity.group) {
        return act();
    }
    let own_groups: Vec<u32> = rustix::process::getgroups()?.iter().map(|group| group.as_raw()).collect();
    // The user last on the way there and first on the way back: only an administrator may change groups.
    let become_asker = || {
        set_groups(&identity.groups)?;
        set_id(libc::SYS_setresgid, identity.group)?;
        set_id(libc::SYS_setresuid, identity.user)
    };
    let done = become_asker().and_then(|()| act());
    set_id(libc::SYS_setresuid, own.0)?;
    set_id(libc::SYS_setresgid, own.1)?;
    set_groups(&own_groups)?;
    done
}

/// Whether this process may write a file.
fn may_write(file: &OwnedFd) -> Result<(), Errno> {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the descriptor is open, and the name a C string.
    told(unsafe { libc::syscall(libc::SYS_faccessat2, file.as_raw_fd(), c"".as_ptr(), libc::W_OK, flags) })
}

/// Sets the effective user or group; the real and the saved one stay.
fn set_id(call: libc::c_long, id: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers; there is no other thread that would have to follow.
    told(unsafe { libc::syscall(call, u32::MAX, id, u32::MAX) })
}

fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the numbers are alive, and as many as is said; there is no other thread.
    told(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

fn told(answer: libc::c_long) -> Result<(), Errno> {
    if answer == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
