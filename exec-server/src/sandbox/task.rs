//! What the server tells the launcher: the words between the two, both from the same binary.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use codex_exec_protocol::process::ProgramLimits;

use super::policy::{Access, Files, NetworkRight, Policy};

/// What a launcher confines itself to, and what it does then.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LauncherTask {
    #[prost(message, required, tag = "1")]
    pub(crate) confinement: Confinement,
    #[prost(oneof = "Work", tags = "2, 3, 4")]
    pub(crate) work: Option<Work>,
}

/// What is done under the confinement.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Work {
    /// Nothing: whether it works was the question.
    #[prost(bool, tag = "2")]
    Probe(bool),
    /// Becomes a program.
    #[prost(message, tag = "3")]
    Run(Run),
    /// Does file operations that are asked for on the descriptor [`REQUESTS`].
    #[prost(bool, tag = "4")]
    Files(bool),
}

/// The descriptor that a task is read from.
pub(crate) const TASK: i32 = 3;
/// The descriptor that a [`Failure`] is written to. It closes by itself when all went well.
pub(crate) const REPORT: i32 = 4;
/// The descriptor that a program's listeners are handed out on, when there are any.
pub(crate) const HANDOVER: i32 = 5;
/// The descriptor that file operations are asked for on.
pub(crate) const REQUESTS: i32 = 0;

/// A confinement in the launcher's words.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Confinement {
    #[prost(enumeration = "Namespaces", tag = "1")]
    pub(crate) namespaces: i32,
    /// Whether files are restricted at all.
    #[prost(bool, tag = "2")]
    pub(crate) files: bool,
    /// What holds outside the regions.
    #[prost(enumeration = "Right", tag = "3")]
    pub(crate) base: i32,
    #[prost(message, repeated, tag = "4")]
    pub(crate) regions: Vec<Area>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) links: Vec<Link>,
    #[prost(bool, tag = "6")]
    pub(crate) network: bool,
    /// Nothing at all is confined: the launcher is only there for the bounds of [`Run`].
    #[prost(bool, tag = "7")]
    pub(crate) off: bool,
    /// Internet sockets in a network of its own, whatever `network` says.
    #[prost(bool, tag = "8")]
    pub(crate) own_network: bool,
    /// Ports of its own network's loopback to listen on for the server.
    #[prost(uint32, repeated, tag = "9")]
    pub(crate) listen: Vec<u32>,
}

/// Which namespaces the launcher makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Namespaces {
    /// None.
    None = 0,
    /// For mounts and IPC, as an administrator may.
    Privileged = 1,
    /// The same in a user namespace of its own, as anybody may where it is allowed.
    User = 2,
}

/// [`Access`] as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Right {
    /// Nothing.
    Nothing = 0,
    /// Read, and execute.
    Read = 1,
    /// Everything.
    Write = 2,
}

/// A tree with an access of its own.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Area {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(enumeration = "Right", tag = "2")]
    right: i32,
}

/// A symlink that a view of its own has too.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Link {
    #[prost(bytes = "vec", tag = "1")]
    at: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    text: Vec<u8>,
}

/// A program to become.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Run {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) argv: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) arg0: Option<Vec<u8>>,
    /// Names and values in turn.
    #[prost(bytes = "vec", repeated, tag = "3")]
    env: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "4")]
    cwd: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) bounds: Vec<Bound>,
    /// The file to enter a control group by.
    #[prost(bytes = "vec", optional, tag = "6")]
    group: Option<Vec<u8>>,
}

/// The most of something that a process may use.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Bound {
    #[prost(enumeration = "Means", tag = "1")]
    pub(crate) of: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) most: u64,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Means {
    /// Address space, in bytes.
    Memory = 0,
    /// Processes of its user.
    Processes = 1,
    /// Seconds on a CPU.
    Cpu = 2,
    /// Descriptors.
    Files = 3,
    /// Bytes of a file that is written.
    FileSize = 4,
}

/// How far a launcher came.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Failure {
    #[prost(enumeration = "Stage", tag = "1")]
    pub(crate) stage: i32,
    /// The system's answer, or 0.
    #[prost(int32, tag = "2")]
    pub(crate) errno: i32,
    #[prost(string, tag = "3")]
    pub(crate) what: String,
}

/// Where a launcher failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Stage {
    /// It could not confine itself.
    Confine = 0,
    /// The working directory is not to be had in there.
    Cwd = 1,
    /// The program could not be found in there.
    Find = 2,
    /// The program could not be executed in there.
    Execute = 3,
}

impl Failure {
    pub(crate) fn new(stage: Stage, what: impl Into<String>, error: &std::io::Error) -> Self {
        Self { stage: stage.into(), errno: error.raw_os_error().unwrap_or(0), what: what.into() }
    }

    pub(crate) fn error(&self) -> std::io::Error {
        std::io::Error::from_raw_os_error(self.errno)
    }
}

impl Area {
    pub(crate) fn new(path: &Path, right: Right) -> Self {
        Self { path: path.as_os_str().as_bytes().to_vec(), right: right.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

impl Link {
    pub(crate) fn at(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.at))
    }

    pub(crate) fn text(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.text))
    }
}

impl Run {
    pub(crate) fn new(
        argv: &[OsString],
        arg0: Option<&OsStr>,
        env: &[(OsString, OsString)],
        cwd: &Path,
        limits: &ProgramLimits,
    ) -> Self {
        let bounds = [
            (Means::Memory, limits.memory_bytes),
            (Means::Processes, limits.processes),
            (Means::Cpu, limits.cpu_seconds),
            (Means::Files, limits.open_files),
            (Means::FileSize, limits.file_size_bytes),
        ];
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        Self {
            argv: argv.iter().map(bytes).collect(),
            arg0: arg0.map(|name| name.as_bytes().to_vec()),
            env: env.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect(),
            cwd: cwd.as_os_str().as_bytes().to_vec(),
            bounds: bounds
                .into_iter()
                .filter_map(|(of, most)| Some(Bound { of: of.into(), most: most? }))
                .collect(),
            group: None,
        }
    }

    /// Has it enter a control group first, by the file that pids are written to.
    pub(crate) fn set_group(&mut self, entrance: Option<&Path>) {
        self.group = entrance.map(|path| path.as_os_str().as_bytes().to_vec());
    }

    pub(crate) fn entrance(&self) -> Option<&Path> {
        self.group.as_deref().map(|path| Path::new(OsStr::from_bytes(path)))
    }

    pub(crate) fn cwd(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.cwd.clone()))
    }

    pub(crate) fn env(&self) -> Vec<(OsString, OsString)> {
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        self.env.as_chunks::<2>().0.iter().map(|[name, value]| (text(name), text(value))).collect()
    }
}

impl Confinement {
    /// None at all.
    pub(crate) fn off() -> Self {
        Self { off: true, network: true, base: Right::Write.into(), ..Self::default() }
    }

    /// A policy as it is to be enforced now: what a rule takes from a missing name that nobody can create is left out.
    ///
    /// With `held`, the policy's placeholders are there.
    pub(crate) fn new(policy: &Policy, namespaces: Namespaces, held: bool) -> Self {
        let network = policy.network == NetworkRight::Open;
        let own_network = policy.network == NetworkRight::Filtered;
        let Files::Rules(rules) = &policy.files else {
            return Self {
                namespaces: namespaces.into(),
                files: false,
                base: Right::Write.into(),
                regions: Vec::new(),
                links: Vec::new(),
                network,
                own_network,
                ..Self::default()
            };
        };
        let there = |path: &Path| {
            path.symlink_metadata().is_ok()
                || (held && rules.placeholders().iter().any(|place| place == path))
        };
        let regions = rules.regions();
        Self {
            namespaces: namespaces.into(),
            files: true,
            base: right(rules.base()).into(),
            regions: regions
                .iter()
                .filter(|region| there(&region.path))
                .map(|region| Area::new(&region.path, right(region.access)))
                .collect(),
            links: rules
                .links()
                .map(|(at, text)| Link {
                    at: at.as_os_str().as_bytes().to_vec(),
                    text: text.as_os_str().as_bytes().to_vec(),
                })
                .collect(),
            network,
            own_network,
            ..Self::default()
        }
    }
}

fn right(access: Access) -> Right {
    match access {
        Access::Hidden | Access::Denied => Right::Nothing,
        Access::Read => Right::Read,
        Access::Write => Right::Write,
    }
}
