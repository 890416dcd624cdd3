//! Starting a program (8.1).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::ProcessId;
use crate::network::NetworkProxy;
use crate::path::LocalPath;
use crate::process::LogPlace;
use crate::sandbox::Sandbox;

/// Params of `process/start`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartParams {
    /// Chosen by the client; private to the session.
    pub process_id: ProcessId,
    /// Program and arguments; at least one element.
    pub argv: Vec<String>,
    /// Working directory of the program.
    pub cwd: LocalPath,
    /// The child's environment, or what is added to [`EnvPolicy`]'s.
    pub env: BTreeMap<String, String>,
    /// On a terminal instead of pipes.
    pub tty: bool,
    /// What the program sees as its `argv[0]`.
    #[serde(default)]
    pub arg0: Option<String>,
    /// Give the child a pipe as stdin; without it, `/dev/null`.
    #[serde(default)]
    pub pipe_stdin: bool,
    /// Start from the server's environment.
    #[serde(default)]
    pub env_policy: Option<EnvPolicy>,
    /// What the program may touch.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// Only with a sandbox (section 13).
    #[serde(default)]
    pub enforce_managed_network: bool,
    /// Bounds of a managed network (13).
    #[serde(default)]
    pub managed_network: Option<ManagedNetwork>,
    /// A filtering proxy for the program (13).
    #[serde(default)]
    pub network_proxy: Option<NetworkProxy>,
    /// Use of a remembered shell environment (8.1).
    #[serde(default)]
    pub shell_snapshot: Option<ShellSnapshot>,
    /// On whose behalf the client asks.
    #[serde(default)]
    pub metadata: Option<StartMetadata>,
    /// Extension: the terminal's rows; default 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Extension: the terminal's columns; default 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// Extension: a real terminal shows the output and answers what programs ask of it, so the server does not (8.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub real_terminal: bool,
    /// Extension: ends the process group after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Extension: ends the process group after this many milliseconds without output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Extension: where the state of a login shell comes from; without it the shell logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_environment: Option<LoginEnvironment>,
    /// Extension: how much the program may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ProgramLimits>,
    /// Extension: where the output is kept.
    #[serde(default, skip_serializing_if = "LogPlace::is_memory")]
    pub log: LogPlace,
    /// Extension: output and end are only read, never pushed, and no connection slows the program but one that attaches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pull_only: bool,
}

impl StartParams {
    /// A program on no terminal, without input and with no variables but its own; what else is wanted is set afterwards.
    pub fn new(process_id: ProcessId, argv: Vec<String>, cwd: PathBuf) -> Self {
        Self {
            process_id,
            argv,
            cwd: LocalPath(cwd),
            env: BTreeMap::new(),
            tty: false,
            arg0: None,
            pipe_stdin: false,
            env_policy: None,
            sandbox: None,
            enforce_managed_network: false,
            managed_network: None,
            network_proxy: None,
            shell_snapshot: None,
            metadata: None,
            rows: None,
            cols: None,
            real_terminal: false,
            timeout_ms: None,
            idle_timeout_ms: None,
            login_environment: None,
            limits: None,
            log: LogPlace::Memory,
            pull_only: false,
        }
    }
}

/// Where the state of a login shell comes from.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoginEnvironment {
    /// From the server's memory, as long as it holds (21.9).
    Remembered,
}

/// How much a program and its descendants may use. A missing member sets no bound; zero is a bound.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProgramLimits {
    /// Memory, in bytes. By a control group: of the program and its descendants, which are all killed when it is exceeded.
    /// By a resource limit: address space of one process, whose allocations then fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads. By a control group: those of the program and its descendants. By a resource limit: those of
    /// the program's user, including those that already run; the kernel does not apply it to an administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// CPU time of one process, in seconds; then it is killed by SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u64>,
    /// Open file descriptors of one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Size of a file that is written, in bytes; beyond it the process gets SIGXFSZ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size_bytes: Option<u64>,
}

/// What holds a program to a limit.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// A control group: the program and all that it starts count together.
    Cgroup,
    /// A resource limit: each process counts by itself.
    Rlimit,
}

/// What holds a program to each of its limits (extension). Missing is what has none, and what nothing holds it to: a number
/// of processes, for an administrator without a control group.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsEnforced {
    /// What enforces `memoryBytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<Enforcement>,
    /// What enforces `processes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Enforcement>,
    /// What enforces `cpuSeconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<Enforcement>,
    /// What enforces `openFiles`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<Enforcement>,
    /// What enforces `fileSizeBytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size_bytes: Option<Enforcement>,
}

impl LimitsEnforced {
    /// All by resource limits; none for no limits. Whether the kernel holds the program's user to a number of processes is
    /// for the caller to say.
    pub fn by_process(limits: &ProgramLimits, holds_processes: bool) -> Option<Self> {
        let by = |limit: Option<u64>| limit.map(|_| Enforcement::Rlimit);
        (*limits != ProgramLimits::default()).then(|| Self {
            memory_bytes: by(limits.memory_bytes),
            processes: by(limits.processes.filter(|_| holds_processes)),
            cpu_seconds: by(limits.cpu_seconds),
            open_files: by(limits.open_files),
            file_size_bytes: by(limits.file_size_bytes),
        })
    }
}

/// How the child's environment is made from the server's (8.2).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvPolicy {
    /// What to start from.
    pub inherit: EnvInherit,
    /// Keep names like `*KEY*`, `*SECRET*`, `*TOKEN*`.
    pub ignore_default_excludes: bool,
    /// Patterns of names to drop.
    pub exclude: Vec<String>,
    /// Variables to add.
    pub set: BTreeMap<String, String>,
    /// Patterns of names to keep; empty keeps all.
    pub include_only: Vec<String>,
}

impl EnvPolicy {
    /// All variables of the server, but for those that no program gets.
    #[must_use]
    pub fn inherit_all() -> Self {
        Self {
            inherit: EnvInherit::All,
            ignore_default_excludes: true,
            exclude: Vec::new(),
            set: BTreeMap::new(),
            include_only: Vec::new(),
        }
    }
}

/// What an environment starts from.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvInherit {
    /// All of the server's variables.
    All,
    /// A short list of names.
    Core,
    /// No variables.
    None,
}

/// Limits of a managed network (8.1).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedNetwork {
    /// Ports on this machine's loopback that the program may reach.
    pub loopback_ports: Vec<u16>,
    /// Whether the program may bind local addresses; in a network of its own it always may.
    pub allow_local_binding: bool,
    /// As [`crate::network::ProxySettings::transparent_tcp`] (21.3).
    pub transparent_tcp: bool,
}

/// A remembered shell environment (8.1).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShellSnapshot {
    /// Snapshots are shared within this scope.
    pub scope_id: String,
    /// The shell that made the snapshot.
    pub shell: crate::environment::Shell,
}

/// Who asks for a start (8.1).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartMetadata {
    /// The agent's thread, a UUID.
    #[serde(deserialize_with = "uuid_text")]
    pub thread_id: Option<String>,
    /// The tool call that starts the program.
    pub tool_call_id: Option<String>,
}

/// A UUID in any of the usual spellings: 32 hex digits, hyphens, braces or `urn:uuid:` allowed.
fn uuid_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    if let Some(text) = text.as_ref().filter(|text| uuid::Uuid::try_parse(text).is_err()) {
        return Err(serde::de::Error::custom(format!("invalid threadId {text:?}: expected a UUID")));
    }
    Ok(text)
}

/// Result of `process/start`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartResult {
    /// The id that the client chose.
    pub process_id: ProcessId,
    /// `none` or `linuxSeccomp`; absent from servers before 0.169.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_type: Option<String>,
    /// Ours: the sandbox leaves `.git`, `.codex` and `.agents` of the workspace unprotected, as the server's user has allowed
    /// where there are no namespaces. Absent else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unprotected_names: bool,
    /// Ours: the id of the log on disk. Absent if the output is kept in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<String>,
}
