//! Sets up what must exist before this process starts its first program: a guard, which ends the programs if this process
//! is killed ([`super::guard`]), and the role of subreaper, by which the kernel gives us their orphans ([`super::orphans`]).
//!
//! Both together would add about a millisecond to a server's start. So the server only says at its start what it wants, and
//! prints its address first. The first caller of [`establish`] does the work.

use std::ffi::CString;
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::child_mark::{Mark, Server};
use super::keeper::above;
use super::platform;
use super::posix::{ExecArgs, NulByte, Streams, Strings};
use super::streams::{above_stdio, dev_null};

/// The guard's `argv[0]`: by it the binary knows that it was started as one.
pub(super) const GUARD: &str = "codex-exec-guard";
/// The number that the guard is sent when this process ends in the ordinary way. Any other is a mark.
pub(super) const GOODBYE: u64 = 0;

/// This process's programs are watched over once, whoever starts them.
static SUPERVISION: Supervision =
    Supervision { wanted: OnceLock::new(), taken: Mutex::new(None), established: OnceLock::new() };

struct Supervision {
    wanted: OnceLock<Wanted>,
    /// The pipe of a guard that a server before this one has started.
    taken: Mutex<Option<PipeWriter>>,
    established: OnceLock<Established>,
}

/// What is to watch over the programs of this process.
#[derive(Debug)]
pub struct Wanted {
    /// The binary that is started as a guard. It has to call [`super::guard::run`] when [`super::guard::is_guard`] says
    /// so.
    pub guard: Option<PathBuf>,
    /// Whether this process takes over the orphans of all programs. From then on every child of this process that
    /// [`super::spawn`] did not start counts as an orphan, and [`super::orphans::reap_adopted`] reaps it.
    pub orphans: bool,
}

/// What is there of what was wanted; `None` where it was not.
#[derive(Debug)]
pub struct Established {
    guard: Option<io::Result<PipeWriter>>,
    orphans: Option<io::Result<()>>,
}

impl Established {
    /// Why there is no guard, though one was wanted: programs outlive this process if it is killed.
    #[must_use]
    pub fn no_guard(&self) -> Option<&io::Error> {
        self.guard.as_ref()?.as_ref().err()
    }

    /// Why orphans do not come to this process, though they should: those that left their program's session are not found.
    #[must_use]
    pub fn no_orphans(&self) -> Option<&io::Error> {
        self.orphans.as_ref()?.as_ref().err()
    }
}

/// Tells the guard, when it is dropped, that this process ends in the ordinary way: its programs have ended by then, or are
/// meant to go on.
#[derive(Debug)]
#[must_use = "the guard is told the ordinary end when this is dropped"]
pub struct Goodbye(());

impl Drop for Goodbye {
    fn drop(&mut self) {
        // A guard that is just being started learns nothing, and finds no program. A panic is no ordinary end.
        if !std::thread::panicking() {
            say(GOODBYE);
        }
    }
}

/// Says what is to watch over programs. The first word counts. Nothing is done before [`establish`], or the first start of a
/// program, whichever comes first.
pub fn want(wanted: Wanted) -> Goodbye {
    let _ = SUPERVISION.wanted.set(wanted);
    Goodbye(())
}

/// Does what [`want`] asked for, once: others wait meanwhile. `None` if nothing was asked for. Blocks for a few milliseconds.
pub fn establish() -> Option<&'static Established> {
    let wanted = SUPERVISION.wanted.get()?;
    Some(SUPERVISION.established.get_or_init(|| {
        if let Some(pipe) = SUPERVISION.taken.lock().take() {
            let orphans = wanted.orphans.then(take_orphans);
            return Established { guard: Some(Ok(pipe)), orphans };
        }
        let mut guard = wanted.guard.as_deref().map(start_guard);
        let orphans = wanted.orphans.then(|| {
            // The guard has to be somebody else's child before orphans come to us, or it would come back as one.
            if let Some(Ok((starter, _))) = guard
                && let Err(error) = wait_for(starter)
            {
                guard = Some(Err(error));
            }
            take_orphans()
        });
        if let (Some(Ok((_, pipe))), Some(store)) = (&guard, above::store()) {
            // The guard is to wait for the keeper's end as well, which starts another server. One that can't be told has the
            // programs end with this server.
            let _ = store.put_guard(pipe.as_fd());
        }
        Established { guard: guard.map(|started| started.map(|(_, pipe)| pipe)), orphans }
    }))
}

/// Goes on with the guard that a server before this one has started. To be called before [`establish`].
pub(super) fn take_guard(pipe: PipeWriter) {
    *SUPERVISION.taken.lock() = Some(pipe);
}

fn take_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether all that was wanted is there, so that a program's start waits for nothing of it.
pub fn is_settled() -> bool {
    SUPERVISION.wanted.get().is_none() || SUPERVISION.established.get().is_some()
}

/// Whether orphans come to this process.
pub(super) fn is_subreaper() -> bool {
    matches!(SUPERVISION.established.get(), Some(Established { orphans: Some(Ok(())), .. }))
}

/// Tells the guard to spare what has this mark: a program that ended by itself left it running on purpose.
pub(super) fn left_on_purpose(mark: Option<Mark>) {
    if let Some(mark) = mark {
        say(mark.number());
        above::left_on_purpose(mark);
    }
}

/// Sends a number to the guard. One that no longer reads can't be helped, so errors are ignored.
fn say(number: u64) {
    if let Some(Established { guard: Some(Ok(pipe)), .. }) = SUPERVISION.established.get() {
        let mut pipe: &PipeWriter = pipe;
        let _ = pipe.write_all(&number.to_le_bytes());
    }
}

/// Starts `binary` as guard: the process that forks it and ends at once, and the pipe whose end the guard waits for.
fn start_guard(binary: &Path) -> io::Result<(Pid, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    let reader = above_stdio(reader.into())?;
    let null = dev_null()?;
    let file = CString::new(binary.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut argv = Strings::default();
    for argument in [GUARD, &Server::own().to_string()] {
        argv.push(&[argument.as_ref()]).map_err(|NulByte| io::ErrorKind::InvalidInput)?;
    }
    let streams = Streams::Each([reader.as_fd(), null, null]);
    let args = ExecArgs { file: &file, argv: &argv, env: &Strings::default(), cwd: c"/", streams, more: &[] };
    let (starter, _) = platform::start(&args)?;
    Ok((starter, writer))
}

/// Waits until the starter has ended, so that the guard is nobody's child.
fn wait_for(starter: Pid) -> io::Result<()> {
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(starter), WaitOptions::empty()))?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(io::Error::other("it ended at once")),
    }
}
