//! A sibling of this process that takes over its memory and its descriptors, on a stack of its own, once this process is gone.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use libc::c_int;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The successor's stack (bytes): as much as a main thread usually has. Only what is touched takes memory.
const STACK: usize = 8 << 20;
/// Below it, so that nothing else is overwritten if it does not suffice (bytes); no page is larger.
const GUARD: usize = 64 << 10;

/// What the successor finds.
struct Inheritance<T> {
    /// 1 until this process has let go of the memory: the kernel writes 0 then, and wakes who waits.
    held: AtomicU32,
    /// The successor's number, as this process sees it.
    pid: AtomicI32,
    pidfd: RawFd,
    then: ManuallyDrop<T>,
}

/// Ends this process, and has its successor do what is left: with its number here and what watches it. The answer is its exit
/// code. Returns only if there can be none. For a process without other threads.
pub(super) fn hand_over_to<T: FnOnce(i32, OwnedFd) -> u8>(then: T) -> io::Error {
    let stack = match make_stack() {
        Ok(stack) => stack,
        Err(error) => return error,
    };
    let mut inheritance = Inheritance {
        held: AtomicU32::new(1),
        pid: AtomicI32::new(0),
        pidfd: -1,
        then: ManuallyDrop::new(then),
    };
    // SAFETY: the place is alive until the memory is gone. What it was before is glibc's own, which nobody waits for.
    unsafe { libc::syscall(libc::SYS_set_tid_address, inheritance.held.as_ptr()) };
    let flags = libc::CLONE_PARENT | libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_FILES;
    let place = &raw mut inheritance;
    // SAFETY: the stack is nobody else's and grows down from its end. `begin` never returns, and touches nothing before this process
    // has let go of all memory: there is no moment at which both use it. This function's frame stays as it is, since the
    // process ends in it. The kernel writes the descriptor before the successor runs.
    let pid = unsafe {
        let top = stack.cast::<u8>().add(GUARD + STACK).cast::<c_void>();
        libc::clone(begin::<T>, top, flags, place.cast::<c_void>(), &raw mut (*place).pidfd)
    };
    if pid > 0 {
        inheritance.pid.store(pid, Ordering::Release);
        // SAFETY: ends this process as it stands; everything that it was there for is another's now.
        unsafe { libc::_exit(0) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: made above, and nobody has used it.
    let _ = unsafe { munmap(stack, GUARD + STACK) };
    drop(ManuallyDrop::into_inner(inheritance.then));
    error
}

fn make_stack() -> io::Result<*mut c_void> {
    let all = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
    // SAFETY: a new mapping, and the protection of its own beginning.
    unsafe {
        let stack = mmap_anonymous(std::ptr::null_mut(), GUARD + STACK, all, flags)?;
        mprotect(stack, GUARD, MprotectFlags::empty())?;
        Ok(stack)
    }
}

/// What the successor does.
extern "C" fn begin<T: FnOnce(i32, OwnedFd) -> u8>(inheritance: *mut c_void) -> c_int {
    let inheritance = inheritance.cast::<Inheritance<T>>();
    // SAFETY: the memory of the process that made this one, which lives on in this one. Until that has let go of it, only one
    // word is read, which the kernel writes. (It wakes by the address in all of its forms, so not by the private one.)
    let code = unsafe {
        let held = &raw const (*inheritance).held;
        while (*held).load(Ordering::Acquire) != 0 {
            let none = std::ptr::null::<libc::timespec>();
            libc::syscall(libc::SYS_futex, held, libc::FUTEX_WAIT, 1, none);
        }
        let pid = (*inheritance).pid.load(Ordering::Acquire);
        let pidfd = OwnedFd::from_raw_fd((*inheritance).pidfd);
        let then = ManuallyDrop::take(&mut (*inheritance).then);
        then(pid, pidfd)
    };
    // SAFETY: ends this process as it stands.
    unsafe { libc::_exit(c_int::from(code)) }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, WaitOptions, waitpid};

    use super::*;

    #[test]
    fn what_is_left_is_done_by_a_sibling_with_the_same_memory_and_descriptors() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: the child uses nothing that another thread of this process may hold: no allocation, no lock.
        let first = unsafe { libc::fork() };
        if first == 0 {
            let kept = [7_u8, 8, 9];
            hand_over_to(|pid, pidfd| {
                // It is there to be asked about, and tells what it has.
                let alive = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::CONT).is_ok();
                let said = [&pid.to_ne_bytes()[..], &kept, &[u8::from(alive)]]
                    .map(|part| rustix::io::write(&writer, part));
                if said.iter().all(Result::is_ok) { 42 } else { 1 }
            });
            // SAFETY: ends the child as it stands.
            unsafe { libc::_exit(1) }
        }
        drop(writer);
        let mut said = [0; 8];
        std::io::Read::read_exact(&mut reader, &mut said).expect("what the successor says");
        let [a, b, c, d, kept @ .., alive] = said;
        let ended = |pid| {
            let (_, status) =
                waitpid(Pid::from_raw(pid), WaitOptions::empty()).expect("a child").expect("ended");
            status.exit_status()
        };
        assert_eq!((kept, alive), ([7, 8, 9], 1));
        assert_eq!(ended(first), Some(0), "the first is gone");
        assert_eq!(
            ended(i32::from_ne_bytes([a, b, c, d])),
            Some(42),
            "its sibling is a child of this process, too"
        );
    }
}
