//! Starts a program on pipes or a terminal, in a session of its own (8.1).

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use codex_exec_protocol::process::ProgramLimits;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::confined::{self, NotStarted};
use super::mark::Mark;
use super::orphans::Origin;
use super::posix::{self, NulByte, Start, Streams, Strings};
use super::procfs::StartTime;
use super::{children, lookup, terminal, vfork};
use crate::sandbox::Confined;
use crate::sandbox::order::{Failure as LauncherFailure, Order, Run, Stage, Task};

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments. The first names the file: with `/` as it is, else searched in `env`'s `PATH`.
    pub argv: Vec<OsString>,
    /// What the program sees as its `argv[0]`, if not that.
    pub arg0: Option<OsString>,
    /// The working directory; absolute. A relative program starts from it.
    pub cwd: PathBuf,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// What its stdin, stdout and stderr are.
    pub stdio: Stdio,
    /// What it is confined to, and the launcher that does so.
    pub confined: Option<(PathBuf, Arc<Confined>)>,
    /// The launcher's end of a socket pair that listeners of the program's own network are handed out on.
    pub handover: Option<Arc<OwnedFd>>,
    /// How much it may use; only a launcher holds it to that.
    pub limits: ProgramLimits,
    /// The file that the launcher puts itself into a control group by.
    pub group: Option<PathBuf>,
}

/// What a program talks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// A pipe each for stdout and stderr; stdin is a pipe too, or `/dev/null`.
    Pipes {
        /// Whether stdin is a pipe.
        stdin: bool,
    },
    /// One terminal for all three, which is the controlling one.
    Terminal {
        /// Its height in characters.
        rows: u16,
        /// Its width in characters.
        cols: u16,
    },
}

/// A started program. Its owner must reap it ([`super::reap`]), and kill it first if it is no longer wanted.
#[derive(Debug)]
pub struct Child {
    /// Its process, group and session.
    pub pid: Pid,
    /// Readable once it can be reaped.
    pub pidfd: OwnedFd,
    /// Our ends of its streams.
    pub ends: Ends,
    /// What tells its orphans from others'.
    pub origin: Origin,
}

/// Our ends of a program's streams, non-blocking and close-on-exec.
#[derive(Debug)]
pub enum Ends {
    /// Of [`Stdio::Pipes`].
    Pipes {
        /// For writing; `None` if stdin is `/dev/null`.
        stdin: Option<OwnedFd>,
        /// For reading.
        stdout: OwnedFd,
        /// For reading.
        stderr: OwnedFd,
    },
    /// Of [`Stdio::Terminal`].
    Terminal {
        /// For both.
        master: OwnedFd,
    },
}

/// Why a program was not started. On the wire all are `-32603` (8.1).
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// `argv` or its first element is empty.
    #[error("the program's name is empty: argv[0] must name a program")]
    EmptyName,
    /// A string that C can't take. It isn't shown, for it may be a secret.
    #[error("{what} contains a NUL byte, which no program can be given")]
    NulByte {
        /// Which string.
        what: &'static str,
    },
    /// No such file.
    #[error("program {program:?} was not found ({hint}): {source}")]
    NotFound {
        /// As asked.
        program: OsString,
        /// Where it was looked for.
        hint: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// There is a file, but it can't be run.
    #[error("program {program:?} cannot be run ({hint}): {source}")]
    NotExecutable {
        /// As asked.
        program: OsString,
        /// What is wrong with it.
        hint: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The working directory is missing, no directory, or closed to us.
    #[error("working directory {cwd:?} cannot be used: {source}")]
    Cwd {
        /// As asked.
        cwd: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The sandbox could not be entered.
    #[error("the program was not started, since its sandbox can't be entered: can't {what}: {source}")]
    Sandbox {
        /// What failed.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The system is out of something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Starts the program, and returns once it is executing: about a millisecond, so no more than many other calls block.
///
/// No signal is ignored or blocked in it, as far as this process did not begin to ignore one after its first start.
///
/// # Errors
/// See [`SpawnError`]; nothing is left behind.
pub fn spawn(program: &Program) -> Result<Child, SpawnError> {
    let name = program.argv.first().filter(|name| !name.is_empty()).ok_or(SpawnError::EmptyName)?;
    if name.as_bytes().contains(&0) {
        return Err(SpawnError::NulByte { what: "argv[0]" });
    }
    if let Some((launcher, confined)) = &program.confined {
        return spawn_confined(program, name, launcher, confined);
    }
    let file = lookup::find(name, &program.cwd, &program.env)
        .map_err(|error| explain(program, name, Path::new(name), error))?;
    let c_file = CString::new(file.as_bytes()).map_err(|_| SpawnError::NulByte { what: "argv[0]" })?;
    let cwd = CString::new(program.cwd.as_os_str().as_bytes())
        .map_err(|_| SpawnError::NulByte { what: "the working directory" })?;
    let argv = arguments(program, name).map_err(|NulByte| SpawnError::NulByte { what: "an argument" })?;
    let env =
        environment(program).map_err(|NulByte| SpawnError::NulByte { what: "an environment variable" })?;
    let begin = |streams: Streams<'_>| {
        let start = Start { file: &c_file, argv: &argv, env: &env, cwd: &cwd, streams, more: &[] };
        begin(&start).map_err(|failure| match failure {
            Failure::Start(error) => explain(program, name, Path::new(&file), error),
            Failure::Watch(source) => SpawnError::System { what: "watch the started program", source },
        })
    };
    connect(program.stdio, begin)
}

/// As [`spawn`], through a launcher: what exists is what the launcher sees once it is confined.
fn spawn_confined(
    program: &Program,
    name: &OsStr,
    launcher: &Path,
    confined: &Confined,
) -> Result<Child, SpawnError> {
    // Looked at before, for the same words as outside.
    arguments(program, name).map_err(|NulByte| SpawnError::NulByte { what: "an argument" })?;
    environment(program).map_err(|NulByte| SpawnError::NulByte { what: "an environment variable" })?;
    let order = order(program, confined);
    let begin = |streams: Streams<'_>| {
        let handover = program.handover.as_ref().map(|socket| socket.as_fd());
        let begun = match (&confined.spares, streams, handover) {
            (Some(spares), Streams::Each(streams), None) => spares.start(launcher, &order, streams),
            (_, streams, handover) => confined::start(launcher, &order, streams, handover),
        };
        begun.map_err(|error| explain_launcher(program, name, error))
    };
    connect(program.stdio, begin)
}

fn order(program: &Program, confined: &Confined) -> Order {
    let mut run =
        Run::new(&program.argv, program.arg0.as_deref(), &program.env, &program.cwd, &program.limits);
    run.set_group(program.group.as_deref());
    Order { confinement: confined.confinement.clone(), task: Some(Task::Run(run)) }
}

/// Starts a program on this process's own stdin, stdout and stderr, as a shell would; `stdio` means nothing. For a binary
/// that has nothing open beyond those.
///
/// # Errors
/// See [`SpawnError`].
pub fn spawn_here(program: &Program) -> Result<std::process::Child, SpawnError> {
    let name = program.argv.first().filter(|name| !name.is_empty()).ok_or(SpawnError::EmptyName)?;
    let Some((launcher, confined)) = &program.confined else {
        let mut command = std::process::Command::new(name);
        command.args(program.argv.iter().skip(1)).env_clear().envs(program.env.iter().cloned());
        let started = command.current_dir(&program.cwd).spawn();
        return started.map_err(|error| explain(program, name, Path::new(name), error));
    };
    confined::start_here(launcher, &order(program, confined))
        .map_err(|error| explain_launcher(program, name, error))
}

fn explain_launcher(program: &Program, name: &OsStr, error: NotStarted) -> SpawnError {
    match error {
        NotStarted::System(what, source) => SpawnError::System { what, source },
        NotStarted::Failed(failure) => explain_confined(program, name, &failure),
    }
}

/// A child of ours: its process, what watches it, and what marks its descendants.
pub(super) type Begun = (Pid, OwnedFd, Option<Mark>);

/// Makes the streams, starts with the child's ends and keeps ours.
fn connect(
    stdio: Stdio,
    begin: impl FnOnce(Streams<'_>) -> Result<Begun, SpawnError>,
) -> Result<Child, SpawnError> {
    let started = StartTime::now();
    let ((pid, pidfd, mark), ends) = match stdio {
        Stdio::Pipes { stdin } => {
            let pipes = Pipes::new(stdin)
                .map_err(|source| SpawnError::System { what: "make pipes for the program", source })?;
            (begin(Streams::Each(pipes.theirs()))?, pipes.ours)
        }
        Stdio::Terminal { rows, cols } => {
            let (master, path) = terminal::open(rows, cols)
                .map_err(|source| SpawnError::System { what: "make a terminal for the program", source })?;
            (begin(Streams::Terminal(&path))?, Ends::Terminal { master })
        }
    };
    Ok(Child { pid, pidfd, ends, origin: Origin { started, mark } })
}

fn arguments(program: &Program, name: &OsStr) -> Result<Strings, NulByte> {
    let mut argv = Strings::default();
    argv.push(&[program.arg0.as_deref().unwrap_or(name)])?;
    for argument in program.argv.iter().skip(1) {
        argv.push(&[argument])?;
    }
    Ok(argv)
}

fn environment(program: &Program) -> Result<Strings, NulByte> {
    let mut env = Strings::default();
    for (name, value) in &program.env {
        env.push(&[name, OsStr::new("="), value])?;
    }
    Ok(env)
}

pub(super) enum Failure {
    Start(io::Error),
    Watch(io::Error),
}

/// Starts, and enters the child in the list of ours before anybody could take it for an orphan.
pub(super) fn begin(start: &Start<'_>) -> Result<Begun, Failure> {
    let _in_flight = children::spawn_in_flight();
    let mut pidfd = None;
    let begun = Mark::put(|| match vfork::start(start) {
        Some(started) => started.map(|(pid, watched)| {
            pidfd = Some(watched);
            pid
        }),
        None => posix::start(start),
    });
    let (pid, mark) = begun.map_err(Failure::Start)?;
    match pidfd.map_or_else(|| rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK), Ok) {
        Ok(pidfd) => {
            children::children().add(pid, mark);
            Ok((pid, pidfd, mark))
        }
        Err(error) => {
            // A program that can't be watched is not kept: it is ours and not reaped, so the pid is surely its own.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            Err(Failure::Watch(error.into()))
        }
    }
}

/// Both ends of a program's pipes.
struct Pipes {
    ours: Ends,
    stdin: Option<OwnedFd>,
    dev_null: BorrowedFd<'static>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Pipes {
    fn new(with_stdin: bool) -> io::Result<Self> {
        let (our_stdin, stdin) = if with_stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            (Some(ours), Some(above_stdio(theirs)?))
        } else {
            (None, None)
        };
        let (our_stdout, stdout) = output_pipe()?;
        let (our_stderr, stderr) = output_pipe()?;
        let ours = Ends::Pipes { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr };
        Ok(Self { ours, stdin, dev_null: dev_null()?, stdout, stderr })
    }

    fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        let stdin = self.stdin.as_ref().map_or(self.dev_null, OwnedFd::as_fd);
        [stdin, self.stdout.as_fd(), self.stderr.as_fd()]
    }
}

/// Our end, for reading, and theirs. Only ours is non-blocking: programs don't expect that of their stdout.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, above_stdio(theirs)?))
}

/// The same file under a number that the child's 0, 1 and 2 can't overwrite. They are free if the server was started
/// with one of its own closed.
fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?) }
}

/// `/dev/null`, opened once for all programs.
fn dev_null() -> io::Result<BorrowedFd<'static>> {
    static DEV_NULL: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = DEV_NULL.get() {
        return Ok(fd.as_fd());
    }
    let opened = std::fs::File::open("/dev/null")?;
    let opened = above_stdio(opened.into())?;
    Ok(DEV_NULL.get_or_init(|| opened).as_fd())
}

/// Says what an errno was about, by looking afterwards: the kernel says neither at which step nor about which file.
fn explain(program: &Program, name: &OsStr, file: &Path, error: io::Error) -> SpawnError {
    if let Err(source) = usable_directory(&program.cwd) {
        return SpawnError::Cwd { cwd: program.cwd.clone(), source };
    }
    explain_errno(name, error, program.cwd.join(file).exists())
}

/// The same for what a launcher reports, which has looked by itself.
fn explain_confined(program: &Program, name: &OsStr, failure: &LauncherFailure) -> SpawnError {
    let source = failure.error();
    match failure.stage() {
        Stage::Confine => SpawnError::Sandbox { what: failure.what.clone(), source },
        Stage::Cwd => SpawnError::Cwd { cwd: program.cwd.clone(), source },
        Stage::Find => explain_errno(name, source, false),
        Stage::Execute => explain_errno(name, source, true),
    }
}

fn explain_errno(name: &OsStr, error: io::Error, there: bool) -> SpawnError {
    let program_name = name.to_owned();
    let not_executable =
        |hint, source| SpawnError::NotExecutable { program: program_name.clone(), hint, source };
    match error.raw_os_error() {
        Some(libc::ENOENT) if there => not_executable("the interpreter that it names is missing", error),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => {
            let hint = if name.as_bytes().contains(&b'/') {
                "there is no such file"
            } else {
                "it is in no directory of the child's PATH"
            };
            SpawnError::NotFound { program: program_name, hint, source: error }
        }
        Some(libc::EACCES | libc::EPERM) => not_executable("it is no file that may be executed", error),
        Some(libc::ENOEXEC) => not_executable("it is no binary, and a script must begin with #!", error),
        Some(libc::ETXTBSY) => not_executable("somebody is writing to it", error),
        Some(libc::E2BIG) => {
            SpawnError::System { what: "pass so long arguments and environment", source: error }
        }
        _ => SpawnError::System { what: "start the program", source: error },
    }
}

fn usable_directory(path: &Path) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
}
