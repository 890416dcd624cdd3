//! The kernel's questions (seccomp_unotify(2)): a filter that makes some calls wait for an answer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_uint, c_ulong};
use rustix::io::Errno;

/// Installs the filter for this process and all it becomes; where the questions come.
pub(super) fn install() -> io::Result<OwnedFd> {
    /// Of the call's number, in what a filter sees.
    const NUMBER: u32 = 0;
    /// Of the first argument's lower half.
    const FAMILY: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let code = |parts: u32| u16::try_from(parts).unwrap_or(0);
    let load = |at| libc::sock_filter {
        code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS),
        jt: 0,
        jf: 0,
        k: at,
    };
    let equals = |value: c_long, jt, jf| libc::sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt,
        jf,
        k: u32::try_from(value).unwrap_or(u32::MAX),
    };
    let answer = |k| libc::sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k };
    let mut program = [
        load(NUMBER),
        equals(libc::SYS_connect, 4, 0),
        equals(libc::SYS_bind, 3, 0),
        equals(libc::SYS_socket, 0, 3),
        load(FAMILY),
        equals(c_long::from(libc::AF_UNIX), 0, 1),
        answer(libc::SECCOMP_RET_USER_NOTIF),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_mut_ptr() };
    let install = |flags: c_ulong| {
        // SAFETY: the program is alive, as long as it says, and only read.
        let answer = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        match c_int::try_from(answer) {
            // SAFETY: the kernel has just opened it for this process.
            Ok(listener @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(listener) }),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // Who is being answered is not disturbed by signals but fatal ones; since Linux 5.19.
    install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        .or_else(|_| install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER))
}

/// A call that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    id: u64,
    /// The thread, in this process's namespace.
    pub(super) thread: u32,
    pub(super) call: c_long,
    pub(super) arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// It succeeds, and nothing is done.
    Done,
    /// It fails.
    Fails(Errno),
    /// The kernel does it, with whatever its arguments are by then.
    GoesOn,
}

/// Where the kernel asks.
#[derive(Debug)]
pub(super) struct Listener(pub(super) OwnedFd);

impl Listener {
    /// The next call that waits; none if it does so no more. Blocks.
    pub(super) fn receive(&self) -> Result<Option<Request>, Errno> {
        // SAFETY: plain numbers, for which zero is a value, and the one that the kernel asks for.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        match self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked) {
            Ok(_) => Ok(Some(Request {
                id: asked.id,
                thread: asked.pid,
                call: c_long::from(asked.data.nr),
                arguments: asked.data.args,
            })),
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a call still waits: until then nobody else can have its thread's number.
    pub(super) fn is_waiting(&self, request: &Request) -> bool {
        let mut id = request.id;
        self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id).is_ok()
    }

    /// Lets a call return. Nothing comes of it if it waits no more.
    pub(super) fn answer(&self, request: &Request, answer: CallOutcome) {
        let (error, flags) = match answer {
            CallOutcome::Done => (0, 0),
            CallOutcome::Fails(errno) => (-errno.raw_os_error(), 0),
            CallOutcome::GoesOn => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(0)),
        };
        let mut response = libc::seccomp_notif_resp { id: request.id, val: 0, error, flags };
        let _ = self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut response);
    }

    /// Puts a descriptor into the process of a call that waits, over that of this number, and leaves the call waiting.
    pub(super) fn replace(
        &self,
        request: &Request,
        fd: BorrowedFd<'_>,
        number: u32,
        close_at_exec: bool,
    ) -> Result<(), Errno> {
        let flags = u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).unwrap_or(0);
        self.add(request, fd, number, flags, close_at_exec).map(drop)
    }

    /// Has a call return a new descriptor of its process.
    pub(super) fn answer_with(
        &self,
        request: &Request,
        fd: BorrowedFd<'_>,
        close_at_exec: bool,
    ) -> Result<(), Errno> {
        let at_once = u32::try_from(libc::SECCOMP_ADDFD_FLAG_SEND).unwrap_or(0);
        match self.add(request, fd, 0, at_once, close_at_exec) {
            // Before Linux 5.14.
            Err(Errno::INVAL) => {
                let number = self.add(request, fd, 0, 0, close_at_exec)?;
                let val = i64::from(number);
                let mut response = libc::seccomp_notif_resp { id: request.id, val, error: 0, flags: 0 };
                self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut response).map(drop)
            }
            other => other.map(drop),
        }
    }

    fn add(
        &self,
        request: &Request,
        fd: BorrowedFd<'_>,
        number: u32,
        flags: u32,
        close_at_exec: bool,
    ) -> Result<c_int, Errno> {
        let mut added = libc::seccomp_notif_addfd {
            id: request.id,
            flags,
            srcfd: u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX),
            newfd: number,
            newfd_flags: if close_at_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
        };
        self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut added)
    }

    fn control<T>(&self, command: libc::Ioctl, about: &mut T) -> Result<c_int, Errno> {
        // SAFETY: each of the commands above reads and writes the structure that it is called with, which is alive.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), command, std::ptr::from_mut(about)) };
        if answer >= 0 {
            return Ok(answer);
        }
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// A family or kind as an argument: the kernel looks at 32 bits.
pub(super) fn number(argument: u64) -> c_int {
    let [a, b, c, d, ..] = argument.to_le_bytes();
    c_uint::from_le_bytes([a, b, c, d]).cast_signed()
}
