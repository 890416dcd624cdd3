//! Ends the programs of a server that was itself killed: a small process that outlives it, and sleeps until then. It is
//! this binary once more; [`super::supervision`] starts it.
//!
//! The kernel can signal a child when its parent dies (`PR_SET_PDEATHSIG`), but it means the parent's *thread*, of which
//! those that start programs come and go, and it reaches no grandchild. The guard waits for the end of a pipe that only
//! the server holds open, and then kills whatever carries one of the server's marks ([`super::child_mark`]). A start
//! costs nothing more for it.
//!
//! It is no child of the server, so that it is never among the server's programs or orphans.

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};

use rustix::process::{Pid, Signal};

use super::child_mark::Server;
use super::procfs::{self, ProcessStamp};
use super::supervision::{GOODBYE, GUARD};
use super::tree;

/// How often `/proc` is searched for programs that still run. A process that is being killed starts no other, so once is
/// nearly always enough.
/// A safeguard, far from any real use.
const MOST_LOOKS: usize = 100;

/// Whether this process was started as a guard. To be asked before anything else is done.
#[must_use]
pub fn is_guard(arg0: Option<&OsStr>) -> bool {
    arg0 == Some(OsStr::new(GUARD))
}

/// Does a guard's work, given the arguments that follow its name. It forks: in the parent it returns at once, in the
/// guard after the server's end, each time with the exit code. To be called before any thread is started.
#[must_use]
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    let Some(server) = arguments.next().and_then(|text| text.to_str()?.parse().ok()) else { return 2 };
    // SAFETY: there is no other thread, whose locks the child could miss.
    match unsafe { libc::fork() } {
        0 => {}
        pid => return u8::from(pid < 0),
    }
    // Signals from the server's terminal, or to the server's group, are not meant for the guard.
    let _ = rustix::process::setsid();
    // SAFETY: ignoring signals runs no code.
    unsafe {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    if let Some(left) = wait_for_death(io::stdin().lock()) {
        end_programs(server, &left);
    }
    0
}

/// Waits for the server's end. Returns the marks of what is meant to go on, or `None` if the server said goodbye.
fn wait_for_death(mut server: impl Read) -> Option<HashSet<u64>> {
    let mut left = HashSet::new();
    let mut number = [0; size_of::<u64>()];
    while server.read_exact(&mut number).is_ok() {
        match u64::from_le_bytes(number) {
            GOODBYE => return None,
            mark => left.insert(mark),
        };
    }
    Some(left)
}

/// Kills whatever carries a mark of this server but those that are left, and returns when none of it runs.
pub(super) fn end_programs(server: Server, left: &HashSet<u64>) {
    for _ in 0..MOST_LOOKS {
        let running = running(server, left);
        if running.is_empty() {
            return;
        }
        // What we may not signal, no other process of this user may signal either.
        let _ = tree::kill_leftovers(&running, Signal::KILL);
    }
}

fn running(server: Server, left: &HashSet<u64>) -> Vec<ProcessStamp> {
    let meant = |pid: &Pid| server.mark_of(*pid).is_some_and(|mark| !left.contains(&mark.number()));
    let marked = procfs::processes().into_iter().flatten().filter(meant);
    let seen = marked.filter_map(|pid| procfs::stat(pid).ok().flatten());
    seen.filter(|stat| !stat.is_zombie()).map(|stat| stat.stamp).collect()
}
