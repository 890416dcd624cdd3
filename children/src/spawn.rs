//! Starts a program on pipes or a terminal, in a session of its own (8.1).

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Resource, Signal, WaitOptions};

use super::child_mark::Mark;
use super::orphans::Origin;
use super::posix::{ExecArgs, NulByte, Streams, Strings};
use super::procfs::StartTime;
use super::streams::{Ends, Pipes, Stdio};
use super::{Role, list, lookup, platform, supervision, terminal};

/// A program to start, with all that it is given.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments. The first names the file: with `/` as it is, else searched in `env`'s `PATH`.
    pub argv: Vec<OsString>,
    /// The program's `argv[0]`, where that is not the file's name.
    pub arg0: Option<OsString>,
    /// The working directory; absolute. A relative program starts from it.
    pub cwd: PathBuf,
    /// The whole environment of the program; nothing of ours is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its stdin, stdout and stderr: pipes or a terminal.
    pub stdio: Stdio,
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
    /// How its orphans are told from those of other programs.
    pub origin: Origin,
}

/// Why a program was not started. On the wire all are `-32603` (8.1).
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// `argv` or its first element is empty.
    #[error("the program's name is empty: argv[0] must name a program")]
    EmptyName,
    /// A string contains a NUL. It isn't shown, for it may be a secret.
    #[error("{what} contains a NUL byte, which no program can be given")]
    NulByte {
        /// Which of the strings it is, in words.
        what: &'static str,
    },
    /// There is no such file.
    #[error("program {program:?} was not found ({hint}): {source}")]
    NotFound {
        /// The name or path as the client gave it.
        program: OsString,
        /// Where it was searched, in words.
        hint: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The file exists and can't be executed.
    #[error("program {program:?} cannot be run ({hint}): {source}")]
    NotExecutable {
        /// The name or path as the client gave it.
        program: OsString,
        /// Why it can't be executed, in words.
        hint: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The working directory is missing, no directory, or closed to us.
    #[error("working directory {cwd:?} cannot be used: {source}")]
    Cwd {
        /// The name or path as the client gave it.
        cwd: PathBuf,
        /// The error that the system returned.
        source: io::Error,
    },
    /// This process has as many descriptors open as its limit allows.
    #[error(
        "cannot {what}: none is left of the {most} descriptors that may be open at once (`ulimit -n`); \
         end other programs, or allow more"
    )]
    Descriptors {
        /// The step that failed, in words.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// The system lacks memory, processes or another resource.
    #[error("cannot {what}: {source}")]
    System {
        /// The step that failed, in words.
        what: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
}

impl Program {
    /// The name that the file is found by: the first of the arguments.
    ///
    /// # Errors
    /// When there is no first argument, or it is empty.
    pub fn name(&self) -> Result<&OsStr, SpawnError> {
        let name = self.argv.first().filter(|name| !name.is_empty()).ok_or(SpawnError::EmptyName)?;
        if name.as_bytes().contains(&0) {
            return Err(SpawnError::NulByte { what: "argv[0]" });
        }
        Ok(name)
    }

    /// The arguments and the environment as C strings.
    ///
    /// # Errors
    /// When one contains a NUL byte.
    pub fn strings(&self) -> Result<(Strings, Strings), SpawnError> {
        let argv =
            arguments(self, self.name()?).map_err(|NulByte| SpawnError::NulByte { what: "an argument" })?;
        let env =
            environment(self).map_err(|NulByte| SpawnError::NulByte { what: "an environment variable" })?;
        Ok((argv, env))
    }
}

/// Starts the program, and returns once it is executing: about a millisecond, so no more than many other calls block.
///
/// The program starts with no signal ignored or blocked, except one that this process began to ignore after its first start
/// of a program.
///
/// # Errors
/// See [`SpawnError`]; nothing is left behind.
pub fn spawn(program: &Program) -> Result<Child, SpawnError> {
    spawn_passing(program, &[])
}

/// As [`spawn`]; the program also has these descriptors, numbered from 3 on. Here their numbers have to be beyond those.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_passing(program: &Program, more: &[BorrowedFd<'_>]) -> Result<Child, SpawnError> {
    let name = program.name()?;
    let file = lookup::find(name, &program.cwd, &program.env)
        .map_err(|error| explain(program, name, Path::new(name), error))?;
    let c_file = CString::new(file.as_bytes()).map_err(|_| SpawnError::NulByte { what: "argv[0]" })?;
    let cwd = CString::new(program.cwd.as_os_str().as_bytes())
        .map_err(|_| SpawnError::NulByte { what: "the working directory" })?;
    let (argv, env) = program.strings()?;
    connect(program.stdio, |streams| {
        let args = ExecArgs { file: &c_file, argv: &argv, env: &env, cwd: &cwd, streams, more };
        spawn_process(&args, Role::Program).map_err(|failure| match failure {
            NotSpawned::Exec(error) => explain(program, name, Path::new(&file), error),
            NotSpawned::Watch(source) => SpawnError::system("watch the started program", source),
        })
    })
}

/// A program on this process's own stdin, stdout and stderr, in its session and process group.
#[derive(Debug)]
pub struct ForegroundChild {
    /// The program's process. Its owner must wait for it.
    pub pid: Pid,
    /// How its descendants are told from other processes.
    pub origin: Origin,
}

impl ForegroundChild {
    /// Waits for its end. Blocks.
    ///
    /// # Errors
    /// When it was waited for before.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let ended = retry_on_intr(|| rustix::process::waitpid(Some(self.pid), WaitOptions::empty()))?;
        let (_, status) = ended.ok_or(Errno::CHILD)?;
        Ok(ExitStatus::from_raw(status.as_raw()))
    }
}

/// Starts a program on this process's own stdin, stdout and stderr, as a shell would; `stdio` means nothing. For a binary
/// that has nothing open beyond those.
///
/// # Errors
/// See [`SpawnError`].
pub fn spawn_here(program: &Program) -> Result<ForegroundChild, SpawnError> {
    let name = program.name()?;
    let mut command = std::process::Command::new(name);
    command.args(program.argv.iter().skip(1)).env_clear().envs(program.env.iter().cloned());
    let started = start_here(command.current_dir(&program.cwd));
    started.map_err(|error| explain(program, name, Path::new(name), error))
}

/// Starts a command as it is, with a mark that all its descendants inherit.
///
/// # Errors
/// The system's.
pub fn start_here(command: &mut std::process::Command) -> io::Result<ForegroundChild> {
    let started = StartTime::now();
    let (pid, mark) = Mark::put(|| Ok::<_, io::Error>(Pid::from_child(&command.spawn()?)))?;
    Ok(ForegroundChild { pid, origin: Origin { started, mark, adopted: false } })
}

/// A process that was started and has no streams of ours yet. Its owner must reap it, as that of a [`Child`].
#[derive(Debug)]
pub struct Spawned {
    /// The process's number.
    pub pid: Pid,
    /// Readable once it can be reaped.
    pub pidfd: OwnedFd,
    /// The mark that its descendants inherit.
    mark: Option<Mark>,
}

impl Spawned {
    /// Takes over the process that this one has made to take its place: a child of ours, too, with the same mark and role, in a PID
    /// namespace whose first process is `init`. To be called while the successor still waits for that, and this process is
    /// then to be reaped.
    #[must_use]
    pub fn successor(&self, pid: Pid, pidfd: OwnedFd, init: Pid) -> Self {
        let mut children = list::children();
        let role = children.role(self.pid);
        children.add(pid, self.mark, role);
        if supervision::is_subreaper() {
            children.inits.insert(init, pid);
        }
        Self { pid, pidfd, mark: self.mark }
    }
}

/// Makes the streams, hands the child's ends to `spawn`, and keeps ours.
///
/// # Errors
/// When the streams can't be made, and those of `spawn`.
pub fn connect<E: From<SpawnError>>(
    stdio: Stdio,
    spawn: impl FnOnce(Streams<'_>) -> Result<Spawned, E>,
) -> Result<Child, E> {
    let started = StartTime::now();
    let (Spawned { pid, pidfd, mark }, ends) = match stdio {
        Stdio::Pipes { stdin } => {
            let pipes = Pipes::new(stdin)
                .map_err(|source| SpawnError::system("make pipes for the program", source))?;
            (spawn(Streams::Each(pipes.theirs()))?, pipes.into_ours())
        }
        Stdio::Terminal { rows, cols } => {
            let (master, path) = terminal::open(rows, cols)
                .map_err(|source| SpawnError::system("make a terminal for the program", source))?;
            (spawn(Streams::Terminal(&path))?, Ends::Terminal { master })
        }
    };
    Ok(Child { pid, pidfd, ends, origin: Origin { started, mark, adopted: false } })
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

/// Why no process was started.
#[derive(Debug)]
pub enum NotSpawned {
    /// The program does not run: the errno of whatever step failed.
    Exec(io::Error),
    /// It ran and could not be watched, so that it was killed.
    Watch(io::Error),
}

/// Starts a process, and adds it to the list of our children before anybody could take it for an orphan.
///
/// # Errors
/// See [`NotSpawned`]; nothing is left behind.
pub fn spawn_process(args: &ExecArgs<'_>, role: Role) -> Result<Spawned, NotSpawned> {
    supervision::establish();
    let _in_flight = list::spawn_in_flight();
    let mut given = None;
    let spawned = Mark::put(|| {
        platform::start(args).map(|(pid, pidfd)| {
            given = pidfd;
            pid
        })
    });
    let (pid, mark) = spawned.map_err(NotSpawned::Exec)?;
    match given.map_or_else(|| platform::watch(pid), Ok) {
        Ok(pidfd) => {
            list::children().add(pid, mark, role);
            Ok(Spawned { pid, pidfd, mark })
        }
        Err(error) => {
            // A program that can't be watched is not kept: it is ours and not reaped, so the pid is surely its own.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            Err(NotSpawned::Watch(error))
        }
    }
}

/// Finds out what an errno was about by looking at the files afterwards: the kernel tells neither the step nor the file.
fn explain(program: &Program, name: &OsStr, file: &Path, error: io::Error) -> SpawnError {
    if let Err(source) = usable_directory(&program.cwd) {
        return SpawnError::Cwd { cwd: program.cwd.clone(), source };
    }
    SpawnError::of_errno(name, error, program.cwd.join(file).exists())
}

impl SpawnError {
    /// What the system answered, where it was asked.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::EmptyName | Self::NulByte { .. } => None,
            Self::Descriptors { .. } => Some(libc::EMFILE),
            Self::NotFound { source, .. }
            | Self::NotExecutable { source, .. }
            | Self::Cwd { source, .. }
            | Self::System { source, .. } => source.raw_os_error(),
        }
    }

    /// What an errno means of which the step is known: `there` tells that the program's file exists.
    #[must_use]
    pub fn of_errno(name: &OsStr, error: io::Error, there: bool) -> Self {
        let program_name = name.to_owned();
        let not_executable =
            |hint, source| Self::NotExecutable { program: program_name.clone(), hint, source };
        match error.raw_os_error() {
            Some(libc::ENOENT) if there => not_executable("the interpreter that it names is missing", error),
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => {
                let hint = if name.as_bytes().contains(&b'/') {
                    "there is no such file"
                } else {
                    "it is in no directory of the child's PATH"
                };
                Self::NotFound { program: program_name, hint, source: error }
            }
            Some(libc::EACCES | libc::EPERM) => not_executable("it is no file that may be executed", error),
            Some(libc::ENOEXEC) => not_executable("it is no binary, and a script must begin with #!", error),
            Some(libc::ETXTBSY) => not_executable("somebody is writing to it", error),
            Some(libc::E2BIG) => {
                Self::System { what: "pass so long arguments and environment", source: error }
            }
            _ => Self::system("start the program", error),
        }
    }

    /// The system refused what this step needed.
    #[must_use]
    pub fn system(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EMFILE) => {
                let most = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
                Self::Descriptors { what, most }
            }
            _ => Self::System { what, source },
        }
    }
}

fn usable_directory(path: &Path) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
}
