//! Starts the launcher that confines itself, and learns how far it came.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use codex_children::posix::{self, ExecArgs, Streams, Strings};
use codex_children::spawn::{self, ForegroundChild, Spawned};
use codex_children::{becomes_program, is_helper, reap, tree};

use super::launcher::NAME;
use super::task::{Failure, LauncherTask, Word};
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

/// What a launcher did until there was nothing more to wait for.
type Outcome = Result<Vec<OwnedFd>, NotStarted>;

/// Starts a launcher and waits until it has become its program, is ready for file operations, or has ended a probe. Blocks
/// for that long.
pub(crate) fn start(
    launcher: &Path,
    task: &LauncherTask,
    streams: Streams<'_>,
) -> Result<Started, NotStarted> {
    let (spawned, wire) = begin(launcher, streams)?;
    let outcome = give(&wire, task, &[]).and_then(|()| outcome(&wire));
    finish(spawned, wire, outcome)
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> NotStarted {
    move |error| NotStarted::System(what, error)
}

/// Starts a launcher that waits for its task at the other end of this wire.
fn begin(launcher: &Path, streams: Streams<'_>) -> Result<(Spawned, OwnedFd), NotStarted> {
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
    let spawned = spawn::spawn_process(&args).map_err(|failure| match failure {
        spawn::NotSpawned::Exec(error) => NotStarted::System("start the launcher", error),
        spawn::NotSpawned::Watch(error) => NotStarted::System("watch the launcher", error),
    })?;
    Ok((spawned, ours))
}

fn give(wire: &OwnedFd, task: &LauncherTask, streams: &[BorrowedFd<'_>]) -> Result<(), NotStarted> {
    wire::send(wire, task, streams).map_err(system("pass the launcher its task"))
}

/// Listens to a launcher until it has become its program or is ready, or says why not.
fn outcome(wire: &OwnedFd) -> Outcome {
    let unreadable = || system("read the launcher's report");
    let mut handed = Vec::new();
    while let Some(received) = wire::receive(wire).map_err(unreadable())? {
        match received.message().map_err(unreadable())? {
            Word::Listening => handed.extend(received.descriptors),
            Word::Ready => break,
            Word::Failed(failure) => return Err(NotStarted::Failed(failure)),
        }
    }
    Ok(handed)
}

/// Ends a launcher that did not come to its end by itself.
fn finish(spawned: Spawned, wire: OwnedFd, outcome: Outcome) -> Result<Started, NotStarted> {
    match outcome {
        Ok(handed) => Ok(Started { spawned, handed, wire }),
        Err(error) => {
            end(&spawned);
            Err(error)
        }
    }
}

/// Kills and reaps.
fn end(spawned: &Spawned) {
    let _ = tree::kill_group(spawned.pid, rustix::process::Signal::KILL);
    reap::wait_for_killed(spawned.pid);
}

/// A launcher that was started beforehand and waits for its task; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Spare {
    /// None once it has become somebody's.
    waiting: Option<(Spawned, OwnedFd)>,
}

impl Spare {
    /// Starts one.
    pub(crate) fn start(launcher: &Path) -> Result<Self, NotStarted> {
        let null = null().map_err(system("open /dev/null"))?;
        let (spawned, wire) = begin(launcher, Streams::Each([null.as_fd(); 3]))?;
        is_helper(spawned.pid);
        Ok(Self { waiting: Some((spawned, wire)) })
    }

    /// Gives it its task and streams, and waits until it has become its program. None if it is there no more.
    pub(crate) fn become_program(
        mut self,
        task: &LauncherTask,
        streams: [BorrowedFd<'_>; 3],
    ) -> Option<Result<Started, NotStarted>> {
        let (spawned, wire) = self.waiting.as_ref()?;
        becomes_program(spawned.pid);
        give(wire, task, &streams).ok()?;
        let (spawned, wire) = self.waiting.take()?;
        let outcome = outcome(&wire);
        Some(finish(spawned, wire, outcome))
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
    match give(&wire, task, &[]).and_then(|()| outcome(&wire)) {
        Ok(handed) => Ok((started, handed)),
        Err(error) => {
            let _ = started.child.kill().and_then(|()| started.child.wait().map(drop));
            Err(error)
        }
    }
}
