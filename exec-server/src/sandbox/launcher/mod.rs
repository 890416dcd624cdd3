//! The launcher: the same binary once more, which confines itself as ordered and then becomes the program.
//!
//! It is started with an empty environment, since variables such as `LD_PRELOAD` would act on it before it is confined;
//! the program's environment, arguments and policy come through a descriptor.

#![allow(unsafe_code)]

mod capabilities;
mod families;
mod filter;
mod ioctls;
mod layout;
mod mount_points;
mod mounts;
mod network;
mod numbers;
mod pids;
mod pins;
mod procfs;
mod queues;
mod rights;
mod sockets;
mod streams;
mod successor;
mod view;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use codex_children::{lookup, posix, signals};
use rustix::process::{Resource, Rlimit};

use self::view::Purpose;
use super::task::{
    Bound, Confinement, Failure, Instruction, LauncherTask, Means, PASSED_AT, Run, Stage, Word, Work,
};
use super::{files, wire};

/// What the kernel has, for the probe.
pub(super) mod supports {
    pub(crate) use super::filter::is_supported as filters;
    pub(crate) use super::rights::version as landlock;
}

/// The launcher's `argv[0]`, by which the binary knows that it is one.
pub const NAME: &str = "codex-sandbox-launcher";

/// The exit code of a launcher that failed; what happened is in its report.
const FAILED: u8 = 125;

/// Whether this process was started as a launcher. Ask before anything else is done.
pub fn is_launcher(arg0: Option<&OsStr>) -> bool {
    arg0 == Some(OsStr::new(NAME))
}

/// Does the task that comes over the wire. Returns the exit code only if no program took this process's place. For the
/// binary's entry, before any thread is started.
pub fn run() -> u8 {
    // SAFETY: whoever starts a launcher gives it this one; nothing else in this process knows it.
    let wire = unsafe { OwnedFd::from_raw_fd(wire::LAUNCHER_END) };
    report(obey(&wire), &wire)
}

/// Tells what went wrong; the exit code.
fn report(outcome: Result<u8, Failure>, wire: &OwnedFd) -> u8 {
    outcome.unwrap_or_else(|failure| {
        // Nobody to tell: then the exit code has to do.
        let _ = wire::send(wire, &Word::Failed(failure), &[]);
        FAILED
    })
}

fn obey(wire: &OwnedFd) -> Result<u8, Failure> {
    close_at_exec().map_err(|error| Failure::new(Stage::Confine, "keep what is open to itself", &error))?;
    let Some(Instructed { instruction, streams }) = next(wire)? else {
        // Nobody needs it any more.
        return Ok(0);
    };
    match instruction {
        Instruction::Task(task) => do_task(&task, streams, wire, None),
        Instruction::Move(kind) => Err(pids::enter(kind, wire, |moved| {
            let outcome = moved.and_then(|first_process| match next(wire)? {
                Some(Instructed { instruction: Instruction::Task(task), streams }) => {
                    do_task(&task, streams, wire, Some(first_process))
                }
                _ => Ok(0),
            });
            report(outcome, wire)
        })),
    }
}

/// What the server says.
struct Instructed {
    instruction: Instruction<LauncherTask>,
    /// The program's stdin, stdout and stderr, if they came along, and what it gets besides.
    streams: Vec<OwnedFd>,
}

/// The next instruction; none if there is nobody to give one any more.
fn next(wire: &OwnedFd) -> Result<Option<Instructed>, Failure> {
    let fail = |error| Failure::new(Stage::Confine, "read its task", &error);
    let Some(received) = wire::receive(wire).map_err(fail)? else { return Ok(None) };
    let instruction = received.message().map_err(fail)?;
    Ok(Some(Instructed { instruction, streams: received.descriptors }))
}

fn do_task(
    task: &LauncherTask,
    mut streams: Vec<OwnedFd>,
    wire: &OwnedFd,
    first_process: Option<OwnedFd>,
) -> Result<u8, Failure> {
    let fail = |error| Failure::new(Stage::Confine, "take its streams", &error);
    let passed = take_passed(&task.work, &mut streams).map_err(fail)?;
    take_streams(streams).map_err(fail)?;
    let links = Links { server: wire, first_process: first_process.as_ref() };
    match &task.work {
        Work::Run(run) => Err(become_program(&task.confinement, run, passed.as_ref(), &links)),
        Work::Probe => confine(&task.confinement, Purpose::Program, None, &links, || Ok(())).map(|()| 0),
        Work::Files => {
            signals::survive_large_files();
            confine(&task.confinement, Purpose::Files, None, &links, || Ok(()))?;
            drop(first_process);
            // A broken wire means that nobody asks any more.
            let served = wire::send(wire, &Word::Ready, &[]).and_then(|()| files::serve(wire.as_fd()));
            Ok(served.map_or(FAILED, |()| 0))
        }
        Work::Stack => {
            confine(&task.confinement, Purpose::Files, None, &links, || Ok(()))?;
            drop(first_process);
            // SAFETY: whoever starts a stack gives it the link as this; nothing else in this process uses it.
            let link = unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) };
            // A broken link means that nobody opens connections any more.
            let ready = wire::send(wire, &Word::Ready, &[]);
            let served = ready.and_then(|()| codex_tcp_stack::serve(link.into()));
            Ok(served.map_or(FAILED, |()| 0))
        }
    }
}

/// Whom a launcher talks to.
struct Links<'a> {
    server: &'a OwnedFd,
    /// That of its PID namespace, if it has moved to one.
    first_process: Option<&'a OwnedFd>,
}

/// Whatever else somebody left open is not the program's, nor is the wire.
fn close_at_exec() -> io::Result<()> {
    let first = libc::c_uint::try_from(wire::LAUNCHER_END).unwrap_or(0);
    // SAFETY: only marks descriptors to be closed at the exec.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 {
        return Ok(());
    }
    // Before Linux 5.11, or by a filter.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(number) = number.filter(|number| *number >= wire::LAUNCHER_END) else { continue };
        // SAFETY: as above; the number may also be that of the directory that is read.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Takes the file that a program gets besides, if there is one, to where it is in nobody's way.
fn take_passed(work: &Work, given: &mut Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    if !matches!(work, Work::Run(run) if run.has_passed) {
        return Ok(None);
    }
    let passed = given.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))?;
    wire::spare(passed).map(Some)
}

/// Takes the program's stdin, stdout and stderr, if they came along with the task.
fn take_streams(given: Vec<OwnedFd>) -> io::Result<()> {
    if given.is_empty() {
        return Ok(());
    }
    let [stdin, stdout, stderr] =
        <[OwnedFd; 3]>::try_from(given).map_err(|_| io::Error::from_raw_os_error(libc::EBADMSG))?;
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    Ok(rustix::stdio::dup2_stderr(stderr)?)
}

/// Confines this process and makes it the program; returns only if that did not work.
fn become_program(
    confinement: &Confinement,
    run: &Run,
    passed: Option<&OwnedFd>,
    links: &Links<'_>,
) -> Failure {
    // First, with the server's rights; whatever it starts is in there too.
    if let Some(Err(error)) = run.group.as_ref().map(|entrance| std::fs::write(entrance, "0")) {
        return Failure::new(Stage::Confine, "enter the cgroup that bounds it", &error);
    }
    let entered = confine(confinement, Purpose::Program, Some(&run.cwd), links, || {
        rustix::process::chdir(&run.cwd)
            .map_err(|error| Failure::new(Stage::Cwd, run.cwd.display().to_string(), &error.into()))
    });
    if let Err(failure) = entered {
        return failure;
    }
    let name = run.argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    let shown = || name.to_string_lossy().into_owned();
    let file = match lookup::find(name, &run.cwd, &run.env) {
        Ok(file) => file,
        Err(error) => return Failure::new(Stage::Find, shown(), &error),
    };
    // Last, since they bound this process too.
    if let Err(failure) = bound(&run.bounds) {
        return failure;
    }
    let error = execute(&file, run, passed).unwrap_or_else(|error| error);
    let stage = if Path::new(&*file).exists() { Stage::Execute } else { Stage::Find };
    Failure::new(stage, shown(), &error)
}

fn execute(file: &OsStr, run: &Run, passed: Option<&OwnedFd>) -> io::Result<io::Error> {
    let _inherited = passed.map(|passed| posix::inherit(passed, PASSED_AT)).transpose()?;
    let file = CString::new(file.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let first = run.arg0.as_ref().or(run.argv.first());
    let argv = first.into_iter().chain(run.argv.iter().skip(1)).map(OsString::as_os_str);
    Ok(posix::replace(&file, argv, &run.env))
}

/// Sets the bounds for this process and all it starts, so that they can't be raised again.
fn bound(bounds: &[Bound]) -> Result<(), Failure> {
    for bound in bounds {
        let resource = match bound.of {
            Means::Memory => Resource::As,
            Means::Processes => Resource::Nproc,
            Means::Cpu => Resource::Cpu,
            Means::Files => Resource::Nofile,
            Means::FileSize => Resource::Fsize,
        };
        let held = rustix::process::getrlimit(resource);
        let most = held.maximum.map_or(bound.most, |maximum| maximum.min(bound.most));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).map_err(|error| {
            Failure::new(Stage::Confine, format!("set the bound {most} of {:?}", bound.of), &error.into())
        })?;
    }
    Ok(())
}

/// Applies everything, from what needs the most rights to what takes the last; `inside` comes when the view stands, which has
/// the directory `cwd` if files may be read there.
fn confine(
    confinement: &Confinement,
    purpose: Purpose,
    cwd: Option<&Path>,
    links: &Links<'_>,
    inside: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Confinement::Walls(walls) = confinement else { return inside() };
    view::enter(walls, purpose, cwd, || network::enter(&walls.network, links.server))?;
    inside()?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Failure::new(Stage::Confine, "give up new privileges", &error.into()))?;
    rights::restrict(walls, purpose)?;
    capabilities::drop_dangerous()
        .map_err(|error| Failure::new(Stage::Confine, "drop capabilities", &error))?;
    filter::install(walls, links.first_process.filter(|_| purpose == Purpose::Program))
}
