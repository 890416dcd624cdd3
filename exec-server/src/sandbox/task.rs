//! What a server tells its launcher, and what that says to it: both are the same binary.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use codex_children::Role;
use codex_exec_protocol::process::ProgramLimits;
use serde::{Deserialize, Serialize};

use super::placeholders::Held;
use super::policy::{Access, Files, NetworkRight, Policy, Region};
use super::wire::{LAUNCHER_END, exact_path};

/// What a launcher confines itself to, and what it does then. A launcher that was started beforehand gets the program's
/// stdin, stdout and stderr along with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LauncherTask {
    pub(crate) confinement: Confinement,
    pub(crate) work: Work,
}

/// What a server tells its launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Instruction<T> {
    /// To make a PID namespace, and in it a process that waits in its place, also in a user namespace if that is the kind.
    Move(Namespaces),
    /// Its task.
    Task(T),
}

/// What is done under the confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Nothing: whether it works was the question.
    Probe,
    /// Becomes a program.
    Run(Run),
    /// Does the file operations that are asked for on the wire from now on.
    Files,
    /// Makes connections of packets, with the link to who opens them as its stdin.
    Stack,
}

/// What a launcher says. Its end of the wire closes by itself when it has become its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It has moved; numbers are those outside. What watches the process that waits now goes along.
    Moved {
        /// The process.
        program: i32,
        /// The namespace's first process.
        init: i32,
    },
    /// The listeners that were asked for go along, behind them the socket for datagrams and what belongs to a device.
    Listening,
    /// It is confined and waits for file operations.
    Ready,
    /// It gave up.
    Failed(Failure),
}

/// What a launcher confines itself to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Confinement {
    /// Nothing: it is only there for the bounds of [`Run`].
    Off,
    /// A policy.
    Walls(Walls),
}

/// A policy as it is enforced on this machine now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Walls {
    pub(crate) namespaces: Namespaces,
    /// The version of Landlock to use, 0 for none.
    pub(crate) landlock: u8,
    pub(crate) files: FileWalls,
    pub(crate) network: NetworkWalls,
    /// The launcher has moved to a PID namespace before: it sees, signals and traces nobody else.
    pub(crate) own_pids: bool,
}

/// Which files there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FileWalls {
    /// All of them.
    All,
    /// What is granted.
    Granted(Granted),
}

/// Access by tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    /// What holds outside the regions.
    pub(crate) base: Access,
    /// Trees with an access of their own, parents first; each was there a moment ago.
    pub(crate) regions: Vec<Region>,
    /// Symlinks that a view of its own has too.
    pub(crate) links: Vec<Link>,
}

/// A symlink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    #[serde(with = "exact_path")]
    pub(crate) at: PathBuf,
    #[serde(with = "exact_path")]
    pub(crate) text: PathBuf,
}

/// Which network there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkWalls {
    /// None: no sockets.
    Closed,
    /// Internet sockets in a network of its own.
    Own {
        /// Ports of its loopback that the launcher listens on for the server.
        listen: Vec<u16>,
        /// A port of its loopback that the launcher takes datagrams at for the server.
        datagrams: Option<u16>,
        /// Whether everything but loopback leads to a device that is handed to the server.
        transparent: bool,
    },
    /// The machine's.
    Open,
}

/// Which namespaces the launcher makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Namespaces {
    /// None.
    None,
    /// For mounts and IPC, as an administrator may.
    Privileged,
    /// The same in a user namespace of its own, as anybody may where it is allowed.
    User,
}

/// A program to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) argv: Vec<OsString>,
    pub(crate) arg0: Option<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    #[serde(with = "exact_path")]
    pub(crate) cwd: PathBuf,
    pub(crate) bounds: Vec<Bound>,
    /// The file to enter a control group by.
    pub(crate) group: Option<OsString>,
    /// A file for the program came along, behind the streams; it gets the number [`PASSED_AT`].
    pub(crate) has_passed: bool,
}

/// The number that a confined program has a further file at: the first behind that of the launcher's wire.
pub(crate) const PASSED_AT: i32 = LAUNCHER_END + 1;

/// The most of something that a process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) of: Means,
    pub(crate) most: u64,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Means {
    /// Address space, in bytes.
    Memory,
    /// Processes of its user.
    Processes,
    /// Seconds on a CPU.
    Cpu,
    /// Descriptors.
    Files,
    /// Bytes of a file that is written.
    FileSize,
}

/// How far a launcher came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    /// The system's answer, or 0.
    errno: i32,
    pub(crate) what: String,
}

/// Where a launcher failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It could not confine itself.
    Confine,
    /// The working directory is not to be had in there.
    Cwd,
    /// The program could not be found in there.
    Find,
    /// The program could not be executed in there.
    Execute,
}

impl LauncherTask {
    /// What the launcher is there for.
    pub(crate) fn role(&self) -> Role {
        match self.work {
            Work::Run(_) => Role::Program,
            Work::Probe | Work::Files | Work::Stack => Role::Helper,
        }
    }

    /// The kind of namespaces that the launcher has to move to a PID namespace with before, if it has to.
    pub(crate) fn moves_with(&self) -> Option<Namespaces> {
        match &self.confinement {
            Confinement::Walls(walls) if walls.own_pids => Some(walls.namespaces),
            _ => None,
        }
    }
}

impl Failure {
    pub(crate) fn new(stage: Stage, what: impl Into<String>, error: &std::io::Error) -> Self {
        Self { stage, errno: error.raw_os_error().unwrap_or(0), what: what.into() }
    }

    /// One that no system call told.
    pub(crate) fn untold(stage: Stage, what: String) -> Self {
        Self { stage, errno: 0, what }
    }

    pub(crate) fn error(&self) -> std::io::Error {
        std::io::Error::from_raw_os_error(self.errno)
    }
}

impl Run {
    pub(crate) fn new(
        argv: &[OsString],
        arg0: Option<&OsStr>,
        env: &[(OsString, OsString)],
        cwd: &Path,
        limits: &ProgramLimits,
        group: Option<&Path>,
    ) -> Self {
        let bounds = [
            (Means::Memory, limits.memory_bytes),
            (Means::Processes, limits.processes),
            (Means::Cpu, limits.cpu_seconds),
            (Means::Files, limits.open_files),
            (Means::FileSize, limits.file_size_bytes),
        ];
        Self {
            argv: argv.to_vec(),
            arg0: arg0.map(OsStr::to_owned),
            env: env.to_vec(),
            cwd: cwd.to_owned(),
            bounds: bounds.into_iter().filter_map(|(of, most)| Some(Bound { of, most: most? })).collect(),
            group: group.map(|path| path.as_os_str().to_owned()),
            has_passed: false,
        }
    }
}

impl NetworkWalls {
    /// A network of its own that nothing is listened on in.
    pub(crate) fn own(transparent: bool) -> Self {
        Self::Own { listen: Vec::new(), datagrams: None, transparent }
    }
}

impl Walls {
    /// A policy as it is to be enforced now: what a rule takes from a missing name that nobody can create is left out.
    ///
    /// The placeholders that are held are there. Without processes of its own.
    pub(crate) fn new(policy: &Policy, namespaces: Namespaces, landlock: u8, held: &Held) -> Self {
        let network = match policy.network {
            NetworkRight::Closed => NetworkWalls::Closed,
            NetworkRight::Filtered => NetworkWalls::own(false),
            NetworkRight::Open => NetworkWalls::Open,
        };
        let Files::Rules(rules) = &policy.files else {
            return Self { namespaces, landlock, files: FileWalls::All, network, own_pids: false };
        };
        let there = |path: &Path| path.symlink_metadata().is_ok() || held.holds(path);
        let files = FileWalls::Granted(Granted {
            base: rules.base(),
            regions: rules.regions().into_iter().filter(|region| there(&region.path)).collect(),
            links: rules
                .links()
                .map(|(at, text)| Link { at: at.to_owned(), text: text.to_owned() })
                .collect(),
        });
        Self { namespaces, landlock, files, network, own_pids: false }
    }

    /// Whether the program has a network of its own.
    pub(crate) fn has_own_network(&self) -> bool {
        matches!(self.network, NetworkWalls::Own { .. })
    }

    /// Whether files are restricted, and no mount helps with it.
    pub(crate) fn is_bare(&self) -> bool {
        self.restricts_files() && self.namespaces == Namespaces::None
    }

    pub(crate) fn restricts_files(&self) -> bool {
        self.files != FileWalls::All
    }
}
