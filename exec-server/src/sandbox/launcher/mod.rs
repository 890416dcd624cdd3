//! The launcher: the same binary once more, which confines itself as ordered and then becomes the program.
//!
//! It is started with an empty environment, since variables such as `LD_PRELOAD` would act on it before it is confined;
//! the program's environment, arguments and policy come through a descriptor.

#![allow(unsafe_code)]

mod capabilities;
mod filter;
mod ioctls;
mod mounts;
mod network;
mod rights;
mod streams;
mod view;

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use codex_children::{lookup, posix, signals};
use prost::Message;
use rustix::fs::FileType;
use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit};

use self::view::Purpose;
use super::task::{
    Bound, Confinement, Failure, LauncherTask, Means, REPORT, REQUESTS, Run, Stage, TASK, Work,
};
use super::{descriptors, files};

/// What the kernel has, for the probe.
pub(super) mod supports {
    pub(crate) use super::filter::is_supported as filters;
    pub(crate) use super::rights::{NEEDED_VERSION, version};
}

/// The launcher's `argv[0]`, by which the binary knows that it is one.
pub const NAME: &str = "codex-sandbox-launcher";

/// The exit code of a launcher that failed; what happened is in its report.
const FAILED: u8 = 125;

/// Whether this process was started as a launcher. Ask before anything else is done.
pub fn is_launcher(arg0: Option<&OsStr>) -> bool {
    arg0 == Some(OsStr::new(NAME))
}

/// Does what the task on descriptor 3 says. Returns the exit code only if no program took this process's place. For the
/// binary's entry, before any thread is started.
pub fn run() -> u8 {
    // SAFETY: whoever starts a launcher gives it these two; nothing else in this process knows them.
    let (task, report) = unsafe { (OwnedFd::from_raw_fd(TASK), OwnedFd::from_raw_fd(REPORT)) };
    let mut report = Some(File::from(report));
    obey(task, &mut report).unwrap_or_else(|failure| {
        // Nobody to tell: then the exit code has to do.
        let _ = report.map(|mut report| report.write_all(&failure.encode_to_vec()));
        FAILED
    })
}

fn obey(task: OwnedFd, report: &mut Option<File>) -> Result<u8, Failure> {
    let fail = |error: &io::Error| Failure::new(Stage::Confine, "read its task", error);
    if let Some(report) = report {
        rustix::io::fcntl_setfd(report, rustix::io::FdFlags::CLOEXEC).map_err(|error| fail(&error.into()))?;
    }
    // Whatever else somebody left open is not the program's.
    // SAFETY: only marks descriptors to be closed at the exec.
    unsafe { libc::syscall(libc::SYS_close_range, REPORT, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let Some(task) = await_task(task).map_err(|error| fail(&error))? else {
        // Nobody needs it any more.
        return Ok(0);
    };
    let mut bytes = Vec::new();
    File::from(task).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    let task = LauncherTask::decode(bytes.as_slice())
        .map_err(|_| fail(&io::Error::from_raw_os_error(libc::EBADMSG)))?;
    match task.work {
        Some(Work::Run(run)) => Err(become_program(&task.confinement, &run)),
        Some(Work::Probe(_)) => confine(&task.confinement, Purpose::Program, || Ok(())).map(|()| 0),
        Some(Work::Files(_)) => {
            signals::survive_large_files();
            confine(&task.confinement, Purpose::Files, || Ok(()))?;
            // Says that it is ready.
            *report = None;
            // SAFETY: whoever starts a helper gives it this descriptor, and it stays open.
            let socket = unsafe { BorrowedFd::borrow_raw(REQUESTS) };
            // A broken socket means that nobody asks any more.
            Ok(files::serve(socket).map_or(FAILED, |()| 0))
        }
        None => Err(fail(&io::Error::from_raw_os_error(libc::ENOSYS))),
    }
}

/// Waits for the task, if it is still to come: then with it come the program's stdin, stdout and stderr. None if none comes.
fn await_task(task: OwnedFd) -> io::Result<Option<OwnedFd>> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&task)?.st_mode);
    if kind != FileType::Socket {
        return Ok(Some(task));
    }
    let (bytes, given) = descriptors::receive(&task, &mut [0], RecvFlags::empty())?;
    if bytes == 0 {
        return Ok(None);
    }
    let [task, stdin, stdout, stderr] =
        <[OwnedFd; 4]>::try_from(given).map_err(|_| io::Error::from_raw_os_error(libc::EBADMSG))?;
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(Some(task))
}

/// Confines this process and makes it the program; returns only if that did not work.
pub(super) fn become_program(confinement: &Confinement, run: &Run) -> Failure {
    // First, with the server's rights; whatever it starts is in there too.
    if let Some(Err(error)) = run.entrance().map(|entrance| std::fs::write(entrance, "0")) {
        return Failure::new(Stage::Confine, "enter the cgroup that bounds it", &error);
    }
    let cwd = run.cwd();
    let entered = confine(confinement, Purpose::Program, || {
        rustix::process::chdir(&cwd)
            .map_err(|error| Failure::new(Stage::Cwd, cwd.display().to_string(), &error.into()))
    });
    if let Err(failure) = entered {
        return failure;
    }
    let env = run.env();
    let name = OsStr::from_bytes(run.argv.first().map_or(b"", Vec::as_slice));
    let shown = || name.to_string_lossy().into_owned();
    let file = match lookup::find(name, &cwd, &env) {
        Ok(file) => file,
        Err(error) => return Failure::new(Stage::Find, shown(), &error),
    };
    // Last, since they bound this process too.
    if let Err(failure) = bound(&run.bounds) {
        return failure;
    }
    let error = execute(&file, run, &env).unwrap_or_else(|error| error);
    let stage = if Path::new(&*file).exists() { Stage::Execute } else { Stage::Find };
    Failure::new(stage, shown(), &error)
}

fn execute(file: &OsStr, run: &Run, env: &[(OsString, OsString)]) -> io::Result<io::Error> {
    let nul = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let file = CString::new(file.as_bytes()).map_err(nul)?;
    let first = run.arg0.as_ref().or(run.argv.first());
    let argv = first.into_iter().chain(run.argv.iter().skip(1)).map(|argument| OsStr::from_bytes(argument));
    Ok(posix::replace(&file, argv, env))
}

/// Sets the bounds for this process and all it starts, so that they can't be raised again.
fn bound(bounds: &[Bound]) -> Result<(), Failure> {
    for bound in bounds {
        let resource = match bound.of() {
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
            Failure::new(Stage::Confine, format!("set the bound {most} of {:?}", bound.of()), &error.into())
        })?;
    }
    Ok(())
}

/// Applies everything, from what needs the most rights to what takes the last; `inside` comes when the view stands.
fn confine(
    confinement: &Confinement,
    purpose: Purpose,
    inside: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    if confinement.off {
        return inside();
    }
    view::enter(confinement, purpose)?;
    network::enter(confinement)?;
    inside()?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Failure::new(Stage::Confine, "give up new privileges", &error.into()))?;
    rights::restrict(confinement, purpose)?;
    capabilities::drop_dangerous()
        .map_err(|error| Failure::new(Stage::Confine, "drop capabilities", &error))?;
    filter::install(confinement)
}
