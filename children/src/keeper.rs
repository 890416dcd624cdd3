//! Ends the programs of a server that was itself killed: a small process that outlives it, and sleeps until then.
//!
//! The kernel can signal a child when its parent dies (`PR_SET_PDEATHSIG`), but it means the parent's *thread*, of which
//! those that start programs come and go, and it reaches no grandchild. The keeper waits for the end of a pipe that only
//! the server holds open, and then kills whatever carries one of the server's marks ([`super::child_mark`]). A start
//! costs nothing more for it.
//!
//! It is no child of the server, so that it is never among the server's programs or orphans.

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use super::child_mark::{Mark, Server};
use super::orphans::ProcessStamp;
use super::posix::{ExecArgs, NulByte, Streams, Strings};
use super::streams::{above_stdio, dev_null};
use super::{procfs, tree, vfork};

/// The keeper's `argv[0]`: by it the binary knows that it was started as one.
pub const NAME: &str = "codex-exec-keeper";
/// Sent instead of a mark when the server ends in the ordinary way.
const GOODBYE: u64 = 0;
/// How often `/proc` is searched for programs that still run. A process that is being killed starts no other, so once is
/// nearly always enough.
/// A safeguard, far from any real use.
const MOST_LOOKS: usize = 100;

/// The process that forks the keeper and ends at once; the keeper is nobody's child from then on.
static STARTER: Mutex<Starter> = Mutex::new(Starter::Ended);

enum Starter {
    Running(Pid),
    Ended,
    Failed,
}

/// The pipe by which this process talks to its keeper.
static KEEPER: OnceLock<PipeWriter> = OnceLock::new();

/// Tells the keeper, when it is dropped, that the server ends in the ordinary way: its programs have ended by then, or are
/// meant to go on.
#[derive(Debug)]
pub struct Kept(());

impl Drop for Kept {
    fn drop(&mut self) {
        say(GOODBYE);
    }
}

/// Starts the keeper of this process: `binary` once more, which has to call [`run`] when [`is_keeper`] says so. Once per
/// process, before it becomes a subreaper. Does not wait until the keeper is nobody's child, which would take longer than
/// all else that a server does before it can serve: [`settle`] does.
///
/// # Errors
/// When it can't be started. Programs then outlive a server that is killed.
pub fn start(binary: &Path) -> io::Result<Kept> {
    let (reader, writer) = io::pipe()?;
    let reader = above_stdio(reader.into())?;
    let null = dev_null()?;
    let nul = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let file = CString::new(binary.as_os_str().as_bytes()).map_err(nul)?;
    let mut argv = Strings::default();
    for argument in [NAME, &Server::own().to_string()] {
        argv.push(&[argument.as_ref()]).map_err(|NulByte| io::Error::from(io::ErrorKind::InvalidInput))?;
    }
    let streams = Streams::Each([reader.as_fd(), null, null]);
    let env = &Strings::default();
    let args = ExecArgs { file: &file, argv: &argv, env, cwd: c"/", streams, more: &[] };
    let (pid, _) = vfork::start(&args)?;
    *starter() = Starter::Running(pid);
    rustix::io::ioctl_fionbio(&writer, true)?;
    KEEPER.set(writer).map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))?;
    Ok(Kept(()))
}

fn starter() -> MutexGuard<'static, Starter> {
    STARTER.lock()
}

/// Waits until the keeper, if one was started, is nobody's child.
pub(crate) fn settle() {
    let mut starter = starter();
    if let Starter::Running(pid) = *starter {
        let ended = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
        let code = ended.ok().flatten().and_then(|(_, status)| status.exit_status());
        *starter = if code == Some(0) { Starter::Ended } else { Starter::Failed };
    }
}

/// Whether a keeper was started and is not there; told once.
#[must_use]
pub fn failed() -> bool {
    let mut starter = starter();
    let failed = matches!(*starter, Starter::Failed);
    if failed {
        *starter = Starter::Ended;
    }
    failed
}

/// Tells the keeper to spare what has this mark: a program that ended by itself left it running on purpose.
pub(crate) fn left_on_purpose(mark: Option<Mark>) {
    if let Some(mark) = mark {
        say(mark.number());
    }
}

/// Sends a number to the keeper. One that no longer reads can't be helped, so errors are ignored.
fn say(number: u64) {
    if let Some(mut keeper) = KEEPER.get() {
        let _ = keeper.write_all(&number.to_le_bytes());
    }
}

/// Whether this process was started as a keeper. To be asked before anything else is done.
#[must_use]
pub fn is_keeper(arg0: Option<&OsStr>) -> bool {
    arg0 == Some(OsStr::new(NAME))
}

/// Does a keeper's work, given the arguments that follow its name. It forks: in the parent it returns at once, in the
/// keeper after the server's end, each time with the exit code. To be called before any thread is started.
#[must_use]
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    let Some(server) = arguments.next().and_then(|text| text.to_str()?.parse().ok()) else { return 2 };
    // SAFETY: there is no other thread, whose locks the child could miss.
    match unsafe { libc::fork() } {
        0 => {}
        pid => return u8::from(pid < 0),
    }
    // Signals from the server's terminal, or to the server's group, are not meant for the keeper.
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

fn end_programs(server: Server, left: &HashSet<u64>) {
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
