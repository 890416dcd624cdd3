//! Makes a child that runs in our memory, with us standing still, until it executes a program: what `posix_spawn` does
//! inside, without what it does for signals and stacks that we don't need.
//!
//! The kernel resets the child's signal handlers (`CLONE_CLEAR_SIGHAND`, clone(2)), so that none of ours can run in it
//! and nothing has to be blocked meanwhile; and the child's stack serves again for the next one. glibc's `posix_spawn`
//! makes 70 more system calls.
//!
//! Where there is no `clone3` (before Linux 5.3, and where a container's filter doesn't know it), `clone` does, and the
//! child resets the handlers itself, with all signals blocked until then. glibc is no help there: it takes a filter's
//! EPERM for the answer.

#![allow(unsafe_code)]

use std::cell::OnceCell;
use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_char, c_int};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::descriptor_limit;
use super::posix::{ExecArgs, Streams};

/// The child's stack (bytes): a page or two are touched; the rest is for a dynamic linker that looks functions up late.
const STACK: usize = 128 << 10;
/// Handlers become default actions (`linux/sched.h`); libc's constant is too narrow.
const CLEAR_SIGHAND: u64 = 1 << 32;
/// The size of the kernel's signal set (bytes), which it wants to be told.
const SIGNAL_SET: usize = size_of::<u64>();
/// The largest number of a signal on Linux.
const LAST_SIGNAL: c_int = 64;

/// What the child does, in values that need no more than reading.
struct Steps {
    streams: [RawFd; 3],
    /// The terminal to open instead.
    terminal: *const c_char,
    more: *const RawFd,
    more_count: c_int,
    cwd: *const c_char,
    ignored: u64,
    /// How many descriptors it may open, if not as many as we.
    descriptors: *const libc::rlimit,
    /// The kernel has not reset the handlers.
    has_handlers: bool,
    file: *const c_char,
    argv: *const *mut c_char,
    env: *const *mut c_char,
    /// The errno of the step that failed.
    failure: c_int,
}

/// Whether this kernel, or who filters its calls, is known to refuse `clone3`.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Makes later starts do without `clone3`, or with it. Returns whether they did without it before.
#[cfg(test)]
pub(super) fn refuse(refuse: bool) -> bool {
    REFUSED.swap(refuse, Ordering::Relaxed)
}

/// Starts the program: in a session of its own, with no signal ignored or blocked, and nothing open but what `args` says.
/// With it comes what watches it, where the kernel gives that along.
///
/// Returns once the exec has happened. An error is the errno of whatever step failed in the child.
pub(super) fn start(args: &ExecArgs<'_>) -> io::Result<(Pid, Option<OwnedFd>)> {
    let (argv, env) = (args.argv.pointers(), args.env.pointers());
    let more: Vec<RawFd> = args.more.iter().map(AsRawFd::as_raw_fd).collect();
    let (streams, terminal) = match &args.streams {
        Streams::Each(fds) => (fds.map(|fd| fd.as_raw_fd()), None),
        Streams::Terminal(path) => ([-1; 3], Some(*path)),
    };
    let mut steps = Steps {
        streams,
        terminal: terminal.map_or(std::ptr::null(), CStr::as_ptr),
        more: more.as_ptr(),
        more_count: c_int::try_from(more.len()).map_err(io::Error::other)?,
        cwd: args.cwd.as_ptr(),
        ignored: ignored(),
        descriptors: descriptor_limit::of_programs().map_or(std::ptr::null(), std::ptr::from_ref),
        has_handlers: false,
        file: args.file.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        failure: 0,
    };
    let (pid, pidfd) = STACK_OF_THREAD.with(|stack| {
        if stack.get().is_none() {
            let _ = stack.set(Stack::new()?);
        }
        let stack = stack.get().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        clone(stack, &mut steps).map_err(io::Error::from_raw_os_error)
    })?;
    if steps.failure == 0 {
        return Ok((pid, pidfd));
    }
    let _ = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
    Err(io::Error::from_raw_os_error(steps.failure))
}

/// The signals that this process ignores, as bits from 0 for signal 1: a program would inherit that. Asked once, since 64
/// calls for each start are too many.
fn ignored() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        (1..=LAST_SIGNAL).fold(0, |ignored, signal| {
            let mut now = Action::default();
            // SAFETY: the kernel fills in an action of its own layout; nothing is changed.
            let asked = unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    std::ptr::null::<Action>(),
                    &raw mut now,
                    SIGNAL_SET,
                )
            };
            if asked == 0 && now.handler == libc::SIG_IGN { ignored | 1 << (signal - 1) } else { ignored }
        })
    })
}

/// The kernel's own `struct sigaction`; all zero is the default action.
#[repr(C)]
#[derive(Default)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
    spare: [u64; 4],
}

/// What the child does. It must neither allocate nor lock
/// nor return, for all memory is its parent's.
extern "C" fn child(steps: *mut Steps) -> ! {
    // SAFETY: the parent stands still, so `steps`, and all it points to, is alive and this process's alone; the calls
    // are async-signal-safe and get what their manual pages ask for.
    unsafe {
        let steps = &mut *steps;
        if prepare(steps) {
            libc::execve(steps.file, steps.argv.cast(), steps.env.cast());
        }
        steps.failure = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// All steps before the exec; false when one failed.
///
/// # Safety
/// As for [`child`], which alone calls it.
unsafe fn prepare(steps: &mut Steps) -> bool {
    // SAFETY: as in `child`.
    unsafe {
        if libc::setsid() < 0 {
            return false;
        }
        let default = Action::default();
        if steps.has_handlers {
            for signal in 1..=LAST_SIGNAL {
                // SIGKILL and SIGSTOP can't be changed, and need not be.
                let none = std::ptr::null::<Action>();
                libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, SIGNAL_SET);
            }
        }
        let mut ignored = steps.ignored;
        while ignored != 0 {
            let signal = ignored.trailing_zeros() + 1;
            let none = std::ptr::null::<Action>();
            if libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, SIGNAL_SET) < 0 {
                return false;
            }
            ignored &= ignored - 1;
        }
        let mut streams = steps.streams;
        if !steps.terminal.is_null() {
            // It becomes the new session's controlling terminal; its number is closed with all others.
            let terminal = libc::open(steps.terminal, libc::O_RDWR);
            if terminal < 0 {
                return false;
            }
            streams = [terminal; 3];
        }
        let mut next = 0;
        for fd in streams {
            if libc::dup2(fd, next) < 0 {
                return false;
            }
            next += 1;
        }
        for index in 0..steps.more_count {
            if libc::dup2(*steps.more.offset(index as isize), next) < 0 {
                return false;
            }
            next += 1;
        }
        // Ours are close-on-exec, but the server may have been started with others open.
        if libc::syscall(libc::SYS_close_range, next, c_int::MAX, 0) < 0 && !close_each(next) {
            return false;
        }
        if libc::chdir(steps.cwd) < 0 {
            return false;
        }
        // A limit belongs to the process, so ours stays.
        if !steps.descriptors.is_null() && libc::setrlimit(libc::RLIMIT_NOFILE, steps.descriptors) < 0 {
            return false;
        }
        let (none, before) = (0_u64, std::ptr::null::<u64>());
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, before, SIGNAL_SET) == 0
    }
}

/// Closes every descriptor from `first` on, one by one: for kernels and filters without `close_range`. False when that
/// can't be done.
///
/// # Safety
/// As for [`child`]: it neither allocates nor locks.
unsafe fn close_each(first: c_int) -> bool {
    /// Where the number of an entry's bytes stands in `linux_dirent64`, and its name.
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    // SAFETY: as in `child`; the kernel fills in no more of the buffer than it says, in whole entries.
    unsafe {
        let directory = libc::open(c"/proc/self/fd".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
        if directory < 0 {
            return close_all(first);
        }
        let mut entries = [0_u8; 1024];
        loop {
            let filled = libc::syscall(libc::SYS_getdents64, directory, entries.as_mut_ptr(), entries.len());
            let Ok(filled @ 1..) = usize::try_from(filled) else {
                libc::close(directory);
                return filled == 0;
            };
            let (mut at, mut closed) = (0, false);
            while at + NAME_AT < filled {
                let entry = entries.as_ptr().add(at);
                let fd = number(entry.add(NAME_AT));
                if fd >= first && fd != directory {
                    libc::close(fd);
                    closed = true;
                }
                at += usize::from(entry.add(LENGTH_AT).cast::<u16>().read_unaligned()).max(1);
            }
            if closed {
                // What was closed may have moved the rest.
                libc::lseek(directory, 0, libc::SEEK_SET);
            }
        }
    }
}

/// Without `/proc`: every number there can be.
///
/// # Safety
/// As for [`child`].
unsafe fn close_all(first: c_int) -> bool {
    /// No more are tried: it takes a tenth of a second. A safeguard, far from any real use.
    const MOST: libc::rlim_t = 1 << 20;
    // SAFETY: as in `child`.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) < 0 {
            return false;
        }
        let end = if limit.rlim_max < MOST { limit.rlim_max } else { MOST };
        let mut fd = first;
        while (fd as libc::rlim_t) < end {
            libc::close(fd);
            fd += 1;
        }
    }
    true
}

/// The number that a string of digits is; -1 for another.
///
/// # Safety
/// It ends with NUL.
unsafe fn number(mut text: *const u8) -> c_int {
    let mut number = 0;
    loop {
        // SAFETY: as the caller promises.
        let digit = unsafe { *text };
        match digit {
            0 => return number,
            b'0'..=b'9' => number = number * 10 + c_int::from(digit - b'0'),
            _ => return -1,
        }
        // SAFETY: there is more, since this was not the end.
        text = unsafe { text.add(1) };
    }
}

/// Clones: the child runs on `stack` through `steps`; we go on when it has executed or is gone.
fn clone(stack: &Stack, steps: &mut Steps) -> Result<(Pid, Option<OwnedFd>), c_int> {
    if !REFUSED.load(Ordering::Relaxed) {
        match newer_clone(stack, steps) {
            Err(libc::ENOSYS | libc::EPERM | libc::EINVAL) => REFUSED.store(true, Ordering::Relaxed),
            cloned => return cloned,
        }
    }
    steps.has_handlers = true;
    older_clone(stack, steps)
}

/// By `clone`, which every kernel has and every filter knows.
fn older_clone(stack: &Stack, steps: &mut Steps) -> Result<(Pid, Option<OwnedFd>), c_int> {
    extern "C" fn begin(steps: *mut c_void) -> c_int {
        child(steps.cast())
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let steps: *mut c_void = std::ptr::from_mut(steps).cast();
    // A handler of ours must not run in the child, whose memory is ours.
    let (all, mut before) = (u64::MAX, 0_u64);
    // SAFETY: sets are bits, and alive. The stack is this thread's, which stands still while the child uses it, and grows
    // down from its end; `begin` never returns.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut before,
            SIGNAL_SET,
        );
        let top = stack.0.cast::<u8>().add(STACK).cast::<c_void>();
        let mut pidfd: c_int = -1;
        // Kernels before 5.2 don't know CLONE_PIDFD, and most of them let it pass.
        let mut pid = libc::clone(begin, top, flags | libc::CLONE_PIDFD, steps, &raw mut pidfd);
        if pid < 0 && *libc::__errno_location() == libc::EINVAL {
            pid = libc::clone(begin, top, flags, steps);
        }
        let errno = *libc::__errno_location();
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, none, SIGNAL_SET);
        match Pid::from_raw(pid.max(0)) {
            Some(pid) => Ok((pid, (pidfd >= 0).then(|| OwnedFd::from_raw_fd(pidfd)))),
            None => Err(errno),
        }
    }
}

fn newer_clone(stack: &Stack, steps: &mut Steps) -> Result<(Pid, Option<OwnedFd>), c_int> {
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let args = libc::clone_args {
        flags: flags as u64 | CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.0.expose_provenance() as u64,
        stack_size: STACK as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: the stack is this thread's, which stands still while the child uses it; `child` never returns.
    let pid = unsafe { clone3(&args, steps) };
    if pid < 0 {
        return Err(c_int::try_from(-pid).unwrap_or(libc::ENOSYS));
    }
    match c_int::try_from(pid).ok().and_then(Pid::from_raw) {
        // SAFETY: the kernel has just opened it for us.
        Some(pid) if pidfd >= 0 => Ok((pid, Some(unsafe { OwnedFd::from_raw_fd(pidfd) }))),
        _ => Err(libc::ENOSYS),
    }
}

/// `clone3` with a call of [`child`] on the new stack: the pid, or a negative errno.
///
/// # Safety
/// `args` must describe a vfork on a stack that is nobody else's.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &libc::clone_args, steps: *mut Steps) -> isize {
    let result;
    // SAFETY: as the caller promises. The child leaves only by exec or exit, so it sees no register or stack of ours
    // again; the system call changes rax, rcx and r11 alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") steps,
            in("r9") child as extern "C" fn(*mut Steps) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: &libc::clone_args, steps: *mut Steps) -> isize {
    let result;
    // SAFETY: as above; the system call changes x0 alone.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x9",
            "blr x10",
            "brk 1",
            "2:",
            inlateout("x0") std::ptr::from_ref(args) => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x9") steps,
            in("x10") child as extern "C" fn(*mut Steps) -> !,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_args: &libc::clone_args, _steps: *mut Steps) -> isize {
    -(libc::ENOSYS as isize)
}

/// The stack of the children that a thread makes, one after the other.
struct Stack(*mut c_void);

thread_local! {
    static STACK_OF_THREAD: OnceCell<Stack> = const { OnceCell::new() };
}

impl Stack {
    fn new() -> rustix::io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: a new mapping, where the kernel likes.
        unsafe { mmap_anonymous(std::ptr::null_mut(), STACK, ProtFlags::READ | ProtFlags::WRITE, flags) }
            .map(Self)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; no child uses it any more, for its parent would stand still.
        let _ = unsafe { munmap(self.0, STACK) };
    }
}
