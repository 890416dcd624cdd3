//! Starts the launcher that confines itself, and learns how far it came.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use codex_children::posix::{self, ExecArgs, Streams, Strings};
use codex_children::spawn::{self, Spawned};
use codex_children::{becomes_program, is_helper, reap, tree};
use prost::Message;
use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::descriptors::{self, spare};
use super::launcher::NAME;
use super::task::{Failure, LauncherTask, REPORT, TASK};

/// Why there is no confined process.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// The launcher itself could not be started.
    System(&'static str, io::Error),
    /// It says why it gave up.
    Failed(Failure),
}

/// Starts a launcher and waits until it has become its program, or has spawned the task that is none. Blocks for that long.
/// Over `handover` it passes the listeners that its task tells it to open; numbered 8 or above.
pub(crate) fn start(
    launcher: &Path,
    task: &LauncherTask,
    streams: Streams<'_>,
    handover: Option<BorrowedFd<'_>>,
) -> Result<Spawned, NotStarted> {
    let task = write_task(task).map_err(system("pass the launcher its task"))?;
    let (spawned, report) = begin(launcher, task, streams, handover)?;
    outcome(spawned, report)
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> NotStarted {
    move |error| NotStarted::System(what, error)
}

/// Starts a launcher that takes its task from a descriptor; it reports on the other.
fn begin(
    launcher: &Path,
    task: OwnedFd,
    streams: Streams<'_>,
    handover: Option<BorrowedFd<'_>>,
) -> Result<(Spawned, OwnedFd), NotStarted> {
    let file = CString::new(launcher.as_os_str().as_bytes())
        .map_err(|_| NotStarted::System("name the launcher", io::Error::from_raw_os_error(libc::EINVAL)))?;
    let mut argv = Strings::default();
    let _ = argv.push(&[NAME.as_ref()]);
    let (report, theirs) = report().map_err(system("make a pipe for the launcher"))?;
    let more: Vec<BorrowedFd<'_>> = [task.as_fd(), theirs.as_fd()].into_iter().chain(handover).collect();
    let args = ExecArgs {
        file: &file,
        argv: &argv,
        // Variables such as LD_PRELOAD would act before the launcher is confined.
        env: &Strings::default(),
        cwd: c"/",
        streams,
        more: &more,
    };
    let spawned = spawn::spawn_process(&args).map_err(|failure| match failure {
        spawn::NotSpawned::Exec(error) => NotStarted::System("start the launcher", error),
        spawn::NotSpawned::Watch(error) => NotStarted::System("watch the launcher", error),
    })?;
    Ok((spawned, report))
}

/// Waits until a launcher has become its program, or says why not.
fn outcome(spawned: Spawned, report: OwnedFd) -> Result<Spawned, NotStarted> {
    let mut told = Vec::new();
    let read = File::from(report).read_to_end(&mut told);
    if told.is_empty() && read.is_ok() {
        return Ok(spawned);
    }
    end(&spawned);
    Err(failed(&told))
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
    spawned: Option<Spawned>,
    socket: OwnedFd,
    report: Option<OwnedFd>,
}

impl Spare {
    /// Starts one.
    pub(crate) fn start(launcher: &Path) -> Result<Self, NotStarted> {
        let pair = || -> io::Result<_> {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
            Ok((ours, spare(theirs)?, spare(&null)?))
        };
        let (socket, theirs, null) = pair().map_err(system("make a socket for the launcher"))?;
        let streams = Streams::Each([null.as_fd(), null.as_fd(), null.as_fd()]);
        let (spawned, report) = begin(launcher, theirs, streams, None)?;
        is_helper(spawned.pid);
        Ok(Self { spawned: Some(spawned), socket, report: Some(report) })
    }

    /// Gives it its task and streams, and waits until it has become its program. None if it is there no more.
    pub(crate) fn become_program(
        mut self,
        task: &LauncherTask,
        streams: [BorrowedFd<'_>; 3],
    ) -> Option<Result<Spawned, NotStarted>> {
        let task = write_task(task).ok()?;
        let [stdin, stdout, stderr] = streams;
        let given = [task.as_fd(), stdin, stdout, stderr];
        becomes_program(self.spawned.as_ref()?.pid);
        descriptors::send(&self.socket, &[IoSlice::new(&[0])], &given).ok()?;
        Some(outcome(self.spawned.take()?, self.report.take()?))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(spawned) = self.spawned.take() {
            end(&spawned);
        }
    }
}

/// Starts a launcher on this process's own stdin, stdout and stderr, in its session and process group, as a shell would;
/// `outputs` instead of the last two where there are any.
/// For a binary without other threads: the launcher's descriptors take their numbers here too, until it has started.
pub(crate) fn start_here(
    launcher: &Path,
    task: &LauncherTask,
    outputs: [Option<OwnedFd>; 2],
) -> Result<std::process::Child, NotStarted> {
    let task = write_task(task).map_err(system("pass the launcher its task"))?;
    let (report, theirs) = report().map_err(system("make a pipe for the launcher"))?;
    let report = spare(report).map_err(system("make a pipe for the launcher"))?;
    let inherited = (
        posix::inherit(&task, TASK).map_err(system("pass the launcher its task"))?,
        posix::inherit(&theirs, REPORT).map_err(system("pass the launcher a pipe"))?,
    );
    drop(theirs);
    let mut command = std::process::Command::new(launcher);
    command.arg0(NAME).env_clear();
    let [stdout, stderr] = outputs;
    if let Some(stdout) = stdout {
        command.stdout(stdout);
    }
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    let mut child = command.spawn().map_err(system("start the launcher"))?;
    drop(inherited);
    let mut told = Vec::new();
    let read = File::from(report).read_to_end(&mut told);
    if told.is_empty() && read.is_ok() {
        return Ok(child);
    }
    let _ = child.kill().and_then(|()| child.wait().map(drop));
    Err(failed(&told))
}

fn failed(told: &[u8]) -> NotStarted {
    match Failure::decode(told) {
        Ok(failure) => NotStarted::Failed(failure),
        Err(_) => {
            NotStarted::System("read the launcher's report", io::Error::from_raw_os_error(libc::EBADMSG))
        }
    }
}

fn write_task(task: &LauncherTask) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"codex-sandbox-task", MemfdFlags::CLOEXEC)?;
    let bytes = task.encode_to_vec();
    let mut written = 0;
    while written < bytes.len() {
        // By offset, so that who inherits the descriptor reads from the beginning.
        written += rustix::io::pwrite(&file, &bytes[written..], written as u64)?;
    }
    spare(file)
}

fn report() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((ours, spare(theirs)?))
}
