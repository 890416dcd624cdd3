//! Starts the launcher that confines itself, and learns how far it came.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use codex_children::posix::{self, ExecArgs, Streams, Strings};
use codex_children::spawn::{self, ForegroundChild, Spawned};
use codex_children::{Role, becomes_program, reap, tree};
use rustix::process::{Pid, Signal};

use super::launcher::NAME;
use super::task::{Failure, Instruction, LauncherTask, Namespaces, Word};
use super::wire::{self, LAUNCHER_END, spare};

/// Why there is no confined process.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// The launcher itself could not be started.
    System(&'static str, io::Error),
    /// It says why it gave up.
    Failed(Failure),
}

/// A launcher that did its task, or waits for what belongs to it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) spawned: Spawned,
    /// What it listens on in a network of its own, as it was told to, and what belongs to the device there.
    pub(crate) handed: Vec<OwnedFd>,
    /// The server's end of the wire to it, for file operations.
    pub(crate) wire: OwnedFd,
}

/// Starts a launcher and waits until it has become its program, is ready for file operations, or has ended a probe. Blocks
/// for that long.
pub(crate) fn start(
    launcher: &Path,
    task: &LauncherTask,
    streams: Streams<'_>,
) -> Result<Started, NotStarted> {
    start_passing(launcher, task, streams, None)
}

/// As [`start`]; a program also gets this file.
pub(crate) fn start_passing(
    launcher: &Path,
    task: &LauncherTask,
    streams: Streams<'_>,
    passed: Option<BorrowedFd<'_>>,
) -> Result<Started, NotStarted> {
    let (spawned, wire) = begin(launcher, task.role(), streams, task.moves_with())?;
    let given = give(&wire, task, passed.as_slice());
    follow(spawned, wire, given)
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> NotStarted {
    move |error| NotStarted::System(what, error)
}

/// Starts a launcher that waits for its task at the other end of this wire, in a PID namespace if it is to move to one.
fn begin(
    launcher: &Path,
    role: Role,
    streams: Streams<'_>,
    moves_with: Option<Namespaces>,
) -> Result<(Spawned, OwnedFd), NotStarted> {
    let file = CString::new(launcher.as_os_str().as_bytes())
        .map_err(|_| NotStarted::System("name the launcher", io::Error::from_raw_os_error(libc::EINVAL)))?;
    let mut argv = Strings::default();
    let _ = argv.push(&[NAME.as_ref()]);
    let (ours, theirs) = wire::pair().map_err(system("make a socket for the launcher"))?;
    let args = ExecArgs {
        file: &file,
        argv: &argv,
        // Variables such as LD_PRELOAD would act before the launcher is confined.
        env: &Strings::default(),
        cwd: c"/",
        streams,
        more: &[theirs.as_fd()],
    };
    let spawned = spawn::spawn_process(&args, role).map_err(|failure| match failure {
        spawn::NotSpawned::Exec(error) => NotStarted::System("start the launcher", error),
        spawn::NotSpawned::Watch(error) => NotStarted::System("watch the launcher", error),
    })?;
    drop(theirs);
    let Some(kind) = moves_with else { return Ok((spawned, ours)) };
    match have_it_moved(&ours, kind) {
        Ok(Moved { program, init, pidfd }) => {
            let successor = spawned.successor(program, pidfd, init);
            // It had nothing more to do than to end.
            reap::wait_for_killed(spawned.pid);
            Ok((successor, ours))
        }
        Err(error) => {
            end(&spawned);
            Err(error)
        }
    }
}

/// A process that took a launcher's place.
struct Moved {
    program: Pid,
    init: Pid,
    pidfd: OwnedFd,
}

/// Has a launcher move to a PID namespace.
fn have_it_moved(wire: &OwnedFd, kind: Namespaces) -> Result<Moved, NotStarted> {
    wire::send(wire, &Instruction::<()>::Move(kind), &[])
        .map_err(system("tell the launcher to make a namespace"))?;
    let unreadable = || system("read the launcher's report");
    let nonsense = || unreadable()(io::Error::from_raw_os_error(libc::EBADMSG));
    let received = wire::receive(wire).map_err(unreadable())?.ok_or_else(nonsense)?;
    match received.message().map_err(unreadable())? {
        Word::Moved { program, init } => {
            let (program, init) = (Pid::from_raw(program), Pid::from_raw(init));
            let pidfd = received.descriptors.into_iter().next();
            match (program, init, pidfd) {
                (Some(program), Some(init), Some(pidfd)) => Ok(Moved { program, init, pidfd }),
                _ => Err(nonsense()),
            }
        }
        Word::Failed(failure) => Err(NotStarted::Failed(failure)),
        Word::Listening | Word::Ready => Err(nonsense()),
    }
}

fn give(wire: &OwnedFd, task: &LauncherTask, along: &[BorrowedFd<'_>]) -> Result<(), NotStarted> {
    wire::send(wire, &Instruction::Task(task), along).map_err(system("pass the launcher its task"))
}

/// Listens to a launcher that got its task, until it has become its program or is ready. Ends one that gave up.
fn follow(spawned: Spawned, wire: OwnedFd, given: Result<(), NotStarted>) -> Result<Started, NotStarted> {
    match given.and_then(|()| listen(&wire)) {
        Ok(handed) => Ok(Started { spawned, handed, wire }),
        Err(error) => {
            end(&spawned);
            Err(error)
        }
    }
}

/// Takes a launcher's words until there is nothing more to wait for; what it hands over.
fn listen(wire: &OwnedFd) -> Result<Vec<OwnedFd>, NotStarted> {
    let unreadable = || system("read the launcher's report");
    let mut handed = Vec::new();
    while let Some(received) = wire::receive(wire).map_err(unreadable())? {
        match received.message().map_err(unreadable())? {
            Word::Listening => handed.extend(received.descriptors),
            Word::Ready => break,
            Word::Failed(failure) => return Err(NotStarted::Failed(failure)),
            Word::Moved { .. } => return Err(unreadable()(io::Error::from_raw_os_error(libc::EBADMSG))),
        }
    }
    Ok(handed)
}

/// Kills and reaps.
fn end(spawned: &Spawned) {
    let _ = tree::kill_group(spawned.pid, Signal::KILL);
    // One that has just moved may not lead its group yet.
    let _ = rustix::process::pidfd_send_signal(&spawned.pidfd, Signal::KILL);
    reap::wait_for_killed(spawned.pid);
}

/// A launcher that was started beforehand and waits for its task; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Spare {
    /// None once it has become somebody's.
    waiting: Option<(Spawned, OwnedFd)>,
    /// The kind of namespaces that it has moved to a PID namespace with.
    moved_with: Option<Namespaces>,
}

impl Spare {
    /// Starts one for tasks that move in this way.
    pub(crate) fn start(launcher: &Path, moved_with: Option<Namespaces>) -> Result<Self, NotStarted> {
        let null = null().map_err(system("open /dev/null"))?;
        let (spawned, wire) = begin(launcher, Role::Helper, Streams::Each([null.as_fd(); 3]), moved_with)?;
        Ok(Self { waiting: Some((spawned, wire)), moved_with })
    }

    /// Whether it can do this task.
    pub(crate) fn fits(&self, task: &LauncherTask) -> bool {
        self.moved_with == task.moves_with()
    }

    /// Gives it its task, streams and what is passed on, and waits until it has become its program. None if it is there no
    /// more.
    pub(crate) fn become_program(
        mut self,
        task: &LauncherTask,
        streams: [BorrowedFd<'_>; 3],
        passed: Option<BorrowedFd<'_>>,
    ) -> Option<Result<Started, NotStarted>> {
        let (spawned, wire) = self.waiting.as_ref()?;
        becomes_program(spawned.pid);
        let given: Vec<_> = streams.into_iter().chain(passed).collect();
        give(wire, task, &given).ok()?;
        let (spawned, wire) = self.waiting.take()?;
        Some(follow(spawned, wire, Ok(())))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some((spawned, _)) = self.waiting.take() {
            end(&spawned);
        }
    }
}

/// `/dev/null` for a launcher's streams.
pub(crate) fn null() -> io::Result<OwnedFd> {
    spare(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?)
}

/// Starts a launcher on this process's own stdin, stdout and stderr, in its session and process group, as a shell would;
/// `outputs` instead of the last two where there are any. With it comes what it handed over.
/// For a binary without other threads: the launcher's descriptor takes its number here too, until it has started.
pub(crate) fn start_here(
    launcher: &Path,
    task: &LauncherTask,
    outputs: [Option<OwnedFd>; 2],
) -> Result<(ForegroundChild, Vec<OwnedFd>), NotStarted> {
    let pair = || -> io::Result<_> {
        let (ours, theirs) = wire::pair()?;
        Ok((spare(ours)?, posix::inherit(&theirs, LAUNCHER_END)?))
    };
    let (wire, inherited) = pair().map_err(system("make a socket for the launcher"))?;
    let mut command = std::process::Command::new(launcher);
    command.arg0(NAME).env_clear();
    let [stdout, stderr] = outputs;
    if let Some(stdout) = stdout {
        command.stdout(stdout);
    }
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    let mut started = spawn::start_here(&mut command).map_err(system("start the launcher"))?;
    drop(inherited);
    let has_moved = task.moves_with().map(|kind| have_it_moved(&wire, kind)).transpose();
    let launcher = started.pid;
    if let Ok(Some(moved)) = &has_moved {
        started.pid = moved.program;
    }
    let outcome = has_moved.and_then(|_| give(&wire, task, &[])).and_then(|()| listen(&wire));
    if outcome.is_err() {
        let _ = rustix::process::kill_process(started.pid, Signal::KILL);
        let _ = started.wait();
    }
    if started.pid != launcher {
        let _ = rustix::process::waitpid(Some(launcher), rustix::process::WaitOptions::empty());
    }
    outcome.map(|handed| (started, handed))
}
