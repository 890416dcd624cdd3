//! Makes a child that runs in our memory, with us standing still, until it executes a program: what `posix_spawn` does
//! inside, without what it does for signals and stacks that we don't need.
//!
//! The kernel resets the child's signal handlers (`CLONE_CLEAR_SIGHAND`, clone(2)), so that none of ours can run in it
//! and nothing has to be blocked meanwhile; and the child's stack serves again for the next one. glibc's `posix_spawn`
//! makes 70 more system calls.

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
    file: *const c_char,
    argv: *const *mut c_char,
    env: *const *mut c_char,
    /// The errno of the step that failed.
    failure: c_int,
    /// What failed is a call that the other way does without.
    refused: bool,
}

/// Whether this kernel, or who filters its calls, is known to refuse.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Has programs started without this from now on, or with it; whether they were.
#[cfg(test)]
pub(super) fn refuse(refuse: bool) -> bool {
    REFUSED.swap(refuse, Ordering::Relaxed)
}

/// Starts the program as [`super::posix::start`] does, and watches it; `None` where this way is not to be had.
pub(super) fn start(args: &ExecArgs<'_>) -> Option<io::Result<(Pid, OwnedFd)>> {
    if REFUSED.load(Ordering::Relaxed) {
        return None;
    }
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
        more_count: c_int::try_from(more.len()).ok()?,
        cwd: args.cwd.as_ptr(),
        ignored: ignored(),
        file: args.file.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        failure: 0,
        refused: false,
    };
    let cloned = STACK_OF_THREAD.with(|stack| {
        if stack.get().is_none() {
            let _ = stack.set(Stack::new().ok()?);
        }
        stack.get().map(|stack| clone(stack, &mut steps))
    })?;
    let (pid, pidfd) = match cloned {
        Ok(child) => child,
        Err(libc::ENOSYS | libc::EPERM | libc::EINVAL) => {
            REFUSED.store(true, Ordering::Relaxed);
            return None;
        }
        Err(errno) => return Some(Err(io::Error::from_raw_os_error(errno))),
    };
    if steps.failure == 0 {
        return Some(Ok((pid, pidfd)));
    }
    let _ = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
    if steps.refused {
        REFUSED.store(true, Ordering::Relaxed);
        return None;
    }
    Some(Err(io::Error::from_raw_os_error(steps.failure)))
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

/// What the child does: the same steps in the same order as [`super::posix::start`]'s. It must neither allocate nor lock
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
            // It becomes the controlling one of the new session; its number is closed with all others.
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
        // Ours are close-on-exec, but whoever started the server may have left others open.
        if libc::syscall(libc::SYS_close_range, next, c_int::MAX, 0) < 0 {
            steps.refused = true;
            return false;
        }
        if libc::chdir(steps.cwd) < 0 {
            return false;
        }
        let (none, before) = (0_u64, std::ptr::null::<u64>());
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, before, SIGNAL_SET) == 0
    }
}

/// Clones: the child runs on `stack` through `steps`; we go on when it has executed or is gone.
fn clone(stack: &Stack, steps: &mut Steps) -> Result<(Pid, OwnedFd), c_int> {
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
        Some(pid) if pidfd >= 0 => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
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
