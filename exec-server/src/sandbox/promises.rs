//! What a profile promises, and which mechanisms of the kernel hold each promise: the table by which a profile is enforced
//! or refused. `SECURITY.md` shows it; a test compares the two.

use std::fmt;

use super::policy::{Files, NetworkRight, Policy};

/// Something of the kernel that holds promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mechanism {
    /// Mounts of the program's own.
    MountNamespace,
    /// Process numbers of the program's own, and `/proc` with nothing else in it.
    PidNamespace,
    /// A network of the program's own.
    NetworkNamespace,
    /// Shared memory, semaphores and queues of the program's own.
    IpcNamespace,
    /// Landlock of this version or a later one.
    Landlock(u8),
    /// A filter of system calls.
    Seccomp,
}

/// The newest version of Landlock that is made use of.
pub(super) const NEWEST_LANDLOCK: u8 = 6;

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MountNamespace => f.write_str("mount namespace"),
            Self::PidNamespace => f.write_str("PID namespace"),
            Self::NetworkNamespace => f.write_str("network namespace"),
            Self::IpcNamespace => f.write_str("IPC namespace"),
            Self::Landlock(version) => write!(f, "Landlock {version}"),
            Self::Seccomp => f.write_str("seccomp"),
        }
    }
}

use Mechanism::{IpcNamespace, Landlock, MountNamespace, NetworkNamespace, PidNamespace, Seccomp};

/// What a policy asks for, as far as the table minds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) files: FileDemand,
    pub(super) network: NetworkRight,
}

/// What of files a policy restricts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileDemand {
    /// Nothing.
    Nothing,
    /// All of them are read at most, and what is closed has nothing more open around it.
    ReadOnly,
    /// Whole trees are written, and what is closed has nothing more open around it.
    Trees,
    /// Some are written and others not, or something is closed inside of what is more open.
    Parts,
}

impl Demand {
    pub(super) const READ_ONLY: Self = Self { files: FileDemand::ReadOnly, network: NetworkRight::Closed };
    pub(super) const WORKSPACE: Self = Self { files: FileDemand::Parts, network: NetworkRight::Closed };
    pub(super) const TREES: Self = Self { files: FileDemand::Trees, network: NetworkRight::Closed };
    pub(super) const OFFLINE: Self = Self { files: FileDemand::Nothing, network: NetworkRight::Closed };
    pub(super) const FILTERED: Self = Self { files: FileDemand::Parts, network: NetworkRight::Filtered };

    pub(super) fn of(policy: &Policy) -> Self {
        let files = match &policy.files {
            Files::All => FileDemand::Nothing,
            Files::Rules(rules) if rules.allows_writing() || rules.narrows_inside() => FileDemand::Parts,
            Files::Rules(_) => FileDemand::ReadOnly,
        };
        Self { files, network: policy.network }
    }

    /// The same where names in writable trees are not protected; none if that is not all that takes mounts.
    pub(super) fn of_trees(policy: &Policy) -> Option<Self> {
        let is_closed_inside = matches!(&policy.files, Files::Rules(rules) if rules.narrows_inside());
        (!is_closed_inside).then_some(Self { files: FileDemand::Trees, network: policy.network })
    }

    fn restricts_files(&self) -> bool {
        self.files != FileDemand::Nothing
    }
}

/// One promise: a row of the table.
#[derive(Debug)]
pub(super) struct Promise {
    /// A word or two, for `codex doctor`.
    pub(super) name: &'static str,
    /// The promise as a sentence.
    pub(super) what: &'static str,
    /// Whether a policy asks for this promise.
    asked_by: fn(&Demand) -> bool,
    /// Ways to hold it, the preferred one first. Each is all that it takes.
    pub(super) held_by: &'static [&'static [Mechanism]],
}

fn always(_: &Demand) -> bool {
    true
}

/// The table.
pub(super) const PROMISES: &[Promise] = &[
    Promise {
        name: "nothing written",
        what: "no file is written or made, and no mode, owner, time or attribute changes",
        asked_by: |demand| demand.files == FileDemand::ReadOnly,
        // Before version 3 a file could be cut off.
        held_by: &[&[MountNamespace], &[Landlock(3), Seccomp]],
    },
    Promise {
        name: "hidden files",
        what: "what no rule mentions is not read",
        asked_by: |demand| matches!(demand.files, FileDemand::ReadOnly | FileDemand::Trees),
        held_by: &[&[MountNamespace], &[Landlock(1)]],
    },
    Promise {
        name: "trees written",
        what: "without protected names: files are written and made only in trees that the profile names, and no mode, owner, \
               time or attribute changes",
        asked_by: |demand| demand.files == FileDemand::Trees,
        held_by: &[&[Landlock(3), Seccomp]],
    },
    Promise {
        name: "writes inside",
        what: "files are written, made and changed only where the profile says so",
        asked_by: |demand| demand.files == FileDemand::Parts,
        held_by: &[&[MountNamespace]],
    },
    Promise {
        name: "denied files",
        what: "what is denied is not read, whatever is open around it",
        asked_by: |demand| demand.files == FileDemand::Parts,
        held_by: &[&[MountNamespace]],
    },
    Promise {
        name: "protected names",
        what: "names inside of something writable stay as they are, and missing ones missing",
        asked_by: |demand| demand.files == FileDemand::Parts,
        held_by: &[&[MountNamespace]],
    },
    Promise {
        name: "devices",
        what: "no device but the harmless ones and the program's own terminal is opened",
        asked_by: Demand::restricts_files,
        held_by: &[&[MountNamespace], &[Landlock(1), Seccomp]],
    },
    Promise {
        name: "kernel settings",
        what: "what the kernel is set by, in `/proc`, `/sys` and control groups, stays as it is",
        asked_by: Demand::restricts_files,
        held_by: &[&[MountNamespace], &[Landlock(3)]],
    },
    Promise {
        name: "signals",
        what: "no process outside gets a signal",
        asked_by: always,
        held_by: &[&[Landlock(6)], &[PidNamespace]],
    },
    Promise {
        name: "tracing",
        what: "no process outside is traced; its memory, environment and descriptors stay closed",
        asked_by: always,
        held_by: &[&[Landlock(1), Seccomp], &[PidNamespace, Seccomp]],
    },
    Promise {
        name: "priorities",
        what: "no limit, priority or processor of a process outside is set",
        asked_by: always,
        held_by: &[&[Seccomp]],
    },
    Promise {
        name: "queues",
        what: "no shared memory, semaphore or queue of others is used by number or name",
        asked_by: always,
        held_by: &[&[IpcNamespace], &[Seccomp]],
    },
    Promise {
        name: "abstract sockets",
        what: "no socket of others is reached by an abstract name",
        asked_by: always,
        held_by: &[&[NetworkNamespace, Seccomp], &[Landlock(6)], &[Seccomp]],
    },
    Promise {
        name: "no network",
        what: "no socket is made but pairs that stay joined, and Unix sockets of the program's own",
        asked_by: |demand| demand.network == NetworkRight::Closed,
        held_by: &[&[Seccomp]],
    },
    Promise {
        name: "filtered network",
        what: "no TCP or UDP leads anywhere but to the program's proxy",
        asked_by: |demand| demand.network == NetworkRight::Filtered,
        held_by: &[&[NetworkNamespace, Seccomp]],
    },
    Promise {
        name: "local sockets",
        what: "with network, no Unix socket of others is reached, and none is made but of the program's own",
        asked_by: |demand| demand.network == NetworkRight::Open,
        held_by: &[&[Seccomp]],
    },
    Promise {
        name: "terminals",
        what: "nothing is typed into a terminal (`TIOCSTI`), and no console is set",
        asked_by: always,
        held_by: &[&[Seccomp]],
    },
    Promise {
        name: "ways into the kernel",
        what: "no mounts, namespaces, keyrings, io_uring, bpf, perf, modules, clocks",
        asked_by: always,
        held_by: &[&[Seccomp]],
    },
];

/// How a promise is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) promise: &'static Promise,
    pub(super) by: &'static [Mechanism],
}

/// How each promise that is asked for is held with what there is.
///
/// # Errors
/// The first one that nothing holds.
pub(super) fn hold(
    demand: &Demand,
    is_there: impl Fn(Mechanism) -> bool,
) -> Result<Vec<Held>, &'static Promise> {
    let asked = PROMISES.iter().filter(|promise| (promise.asked_by)(demand));
    asked
        .map(|promise| {
            let way = promise.held_by.iter().find(|way| way.iter().all(|one| is_there(*one)));
            way.map(|by| Held { promise, by }).ok_or(promise)
        })
        .collect()
}

/// The ways to hold a promise, for people: `mount namespace, or Landlock 3 and seccomp`.
pub(super) fn ways(promise: &Promise) -> String {
    let way = |way: &&[Mechanism]| way.iter().map(Mechanism::to_string).collect::<Vec<_>>().join(" and ");
    promise.held_by.iter().map(way).collect::<Vec<_>>().join(", or ")
}
