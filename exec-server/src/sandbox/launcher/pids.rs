//! Processes of the program's own: a PID namespace, in which it sees, signals and traces nobody else.
//!
//! Three processes take part. The launcher makes the namespace, and in it a first process and the one that becomes the
//! program; then it is gone. The program's process is made as a sibling of the launcher, so that it is the server's own
//! child: how it ends and what it used is told by the kernel. It takes over the launcher's memory as it is, for a copy takes longer,
//! and longest when it becomes the program. The first process, which gets the program's orphans, reaps,
//! and ends once nobody else is left. With it ends everything in the namespace, whoever kills it; from inside nobody can.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use codex_children::groups;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::{sockets, successor, view};
use crate::sandbox::task::{Failure, Namespaces, Stage, Word};
use crate::sandbox::wire;

/// The number that the program has in its namespace, behind the first process.
const PROGRAM: i32 = 2;

/// Enters a new PID namespace, and one for IPC with it. What is left to do is done by `then`, in the process that is to become the program,
/// with a link to the first process that has to be closed when it does; its answer is the exit code. That process must not
/// end before the server has given it its task, and so knows of it: until then it may be taken for an orphan. Returns only
/// if that did not come so far.
pub(super) fn enter(
    namespaces: Namespaces,
    server: &OwnedFd,
    then: impl FnOnce(Result<OwnedFd, Failure>) -> u8,
) -> Failure {
    let make = || -> Result<_, Failure> {
        view::unshare(namespaces, UnshareFlags::NEWPID | UnshareFlags::NEWIPC)
            .map_err(fail("enter a namespace"))?;
        let (theirs, ours) = wire::pair().map_err(fail("make a socket"))?;
        let group = Group::of_launcher().map_err(fail("let go of the terminal"))?;
        let init = fork_init(theirs).map_err(fail("make a first process"))?;
        Ok((ours, group, init))
    };
    let (ours, group, init) = match make() {
        Ok(made) => made,
        Err(failure) => return failure,
    };
    let error = successor::hand_over_to(|program, pidfd| {
        let told = || -> Result<OwnedFd, Failure> {
            group.join().map_err(fail("make a session"))?;
            let moved = wire::send(server, &Word::Moved { program, init }, &[pidfd.as_fd()]);
            moved.map_err(fail("tell the server"))?;
            Ok(ours)
        };
        then(told())
    });
    fail("make the program's process")(error)
}

fn fail(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(Stage::Confine, format!("{what} for processes of its own"), &error)
}

/// Whose process group and session the program is in.
enum Group {
    /// Its own, since the launcher led one.
    Own {
        /// Its stdin is its terminal.
        terminal: bool,
    },
    /// The one that the launcher was started in, by somebody who runs on its terminal as well.
    Callers,
}

impl Group {
    /// Of this process. One that leads a session lets go of its terminal, which the program takes.
    fn of_launcher() -> io::Result<Self> {
        if !groups::leads_session() {
            return Ok(Self::Callers);
        }
        let terminal = groups::is_on_own_terminal();
        if terminal {
            // SAFETY: no handler is set or replaced. The kernel tells who is left by the terminal, which is this process.
            unsafe {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                let left = libc::ioctl(libc::STDIN_FILENO, libc::TIOCNOTTY);
                let error = io::Error::last_os_error();
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                if left < 0 {
                    return Err(error);
                }
            }
        }
        Ok(Self::Own { terminal })
    }

    /// Puts the program's process where it belongs.
    fn join(self) -> io::Result<()> {
        let Self::Own { terminal } = self else { return Ok(()) };
        rustix::process::setsid()?;
        // SAFETY: takes a terminal that is nobody's for this session, and no memory.
        if terminal && unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Makes the namespace's first process, and returns its number outside. It looks for the program once that has handed
/// something over, or nobody has the other end of the link any more.
fn fork_init(link: OwnedFd) -> io::Result<i32> {
    let dumpable = rustix::process::dumpable_behavior()?;
    // From its first moment on nobody in the namespace may look into it, or trace it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // SAFETY: there is no other thread, whose locks the child could miss.
    let init = unsafe { libc::fork() };
    if init == 0 {
        let _ = reap_to_the_end(link);
        // SAFETY: ends this process as it stands.
        unsafe { libc::_exit(0) }
    }
    let error = io::Error::last_os_error();
    rustix::process::set_dumpable_behavior(dumpable)?;
    if init < 0 { Err(error) } else { Ok(init) }
}

/// What the first process does: reaping, and answering for the program if that is handed over. Otherwise it has nothing open
/// and no rights.
fn reap_to_the_end(link: OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: no handler is set. What the kernel gives to this process is reaped by itself from now on; and nobody in there
    // can have it run the handlers that Rust's runtime has for faults.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
    rustix::stdio::dup2_stdin(link)?;
    // SAFETY: nothing here uses any of them any more, and no destructor runs before the end.
    if unsafe { libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Until it executes nobody else is here. Whoever could look at this process by then may not: it is not dumpable.
    let handed = sockets::take(rustix::stdio::stdin())?;
    let program = Pid::from_raw(PROGRAM)
        .and_then(|program| rustix::process::pidfd_open(program, PidfdFlags::empty()).ok());
    match (handed, program) {
        (Some(handed), program) => sockets::serve(handed, program.as_ref())?,
        (None, Some(program)) => {
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            rustix::thread::set_capabilities(None, sets)?;
            retry_on_intr(|| poll(&mut [PollFd::new(&program, PollFlags::IN)], None))?;
        }
        (None, None) => {}
    }
    // Who ignores SIGCHLD waits for all of its children at once. Those of the program are its own by now.
    while retry_on_intr(|| rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED)).is_ok() {}
    Ok(())
}
