//! Knows what this machine can enforce, and prepares confinements; what can't be enforced is refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::sandbox::Sandbox;

use super::abilities::{Abilities, Limit, Plan, Without, glance, network_device, probe};
use super::error::PolicyError;
use super::kernel_mounts::KernelMounts;
use super::lookups::Lookups;
use super::placeholders::Held;
use super::policy::{Access, Files, Policy};
use super::promises::Demand;
use super::resolve::{Surroundings, resolve_by};
use super::spares::Spares;
use super::task::{Confinement, FileWalls, Granted, NetworkWalls, Walls};
use super::wire::encode;

/// Which namespaces may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamespaceUse {
    /// Whatever works.
    #[default]
    Any,
    /// Only those that an ordinary user could have.
    UserOnly,
    /// None.
    Off,
}

/// Whose process numbers a confined program has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own, where that works: it sees nobody else.
    #[default]
    Isolate,
    /// The server's. Its signals and its tracing end at its sandbox all the same, and what takes a namespace for that is refused.
    Inherit,
}

/// What is done where there are no namespaces, and a profile lets a workspace be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithoutNamespaces {
    /// It is refused, since nothing else holds it whole.
    #[default]
    Refuse,
    /// It is enforced but for the protection of `.git`, `.codex` and `.agents` in the workspace.
    UnprotectedNames,
}

/// A confinement that can be entered; what it needs on the disk is there as long as this is.
#[derive(Debug)]
pub struct Confined {
    pub(crate) confinement: Confinement,
    pub(crate) held: Held,
    /// Whether names in writable project roots are not protected ([`WithoutNamespaces`]).
    pub(crate) leaves_names: bool,
    /// Launchers that are ready, where there are any.
    pub(crate) spares: Option<Arc<Spares>>,
}

impl Confined {
    /// Whether `.git`, `.codex` and `.agents` of the workspace can be written against the profile.
    pub fn leaves_names_unprotected(&self) -> bool {
        self.leaves_names
    }

    /// Whether the program gets a network of its own.
    pub(crate) fn has_own_network(&self) -> bool {
        matches!(&self.confinement, Confinement::Walls(walls) if walls.has_own_network())
    }

    /// Has these ports of a network of its own listened on for the server, and datagrams taken at that one; with `device`
    /// one is made that everything else leads to.
    pub(crate) fn listen_on(&mut self, ports: Vec<u16>, datagrams: Option<u16>, device: bool) {
        if let Confinement::Walls(walls) = &mut self.confinement
            && walls.has_own_network()
        {
            walls.network = NetworkWalls::Own { listen: ports, datagrams, transparent: device };
        }
    }

    /// The same walls, for what only looks at what a program in there would find: nobody outside is connected to it. What is
    /// held on the disk has to be held by this one meanwhile.
    pub(crate) fn for_a_look(&self) -> Self {
        let mut confinement = self.confinement.clone();
        if let Confinement::Walls(walls) = &mut confinement
            && walls.has_own_network()
        {
            walls.network = NetworkWalls::own(false);
        }
        Self { confinement, held: Held::default(), leaves_names: self.leaves_names, spares: None }
    }

    /// What tells these walls from others.
    ///
    /// # Errors
    /// For a confinement that can't be written down.
    pub(crate) fn identity(&self) -> std::io::Result<Vec<u8>> {
        encode(&self.confinement)
    }

    /// Whether there are walls at all, and not only bounds.
    pub(crate) fn has_walls(&self) -> bool {
        matches!(self.confinement, Confinement::Walls(_))
    }

    /// By the same means, but with no file and no socket: for what needs none (21.3).
    pub(crate) fn for_stack(&self) -> Option<Walls> {
        let Confinement::Walls(walls) = &self.confinement else { return None };
        let files =
            FileWalls::Granted(Granted { base: Access::Hidden, regions: Vec::new(), links: Vec::new() });
        Some(Walls { files, network: NetworkWalls::Closed, ..walls.clone() })
    }
}

/// Why a policy is not enforced here.
#[derive(Debug, thiserror::Error)]
pub enum ConfineRefusal {
    /// The profile itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The machine.
    #[error("this machine can't enforce the sandbox, so nothing is done: {reason}")]
    Machine {
        /// What is missing, and what helps.
        reason: String,
    },
    /// A missing name that has to be kept from coming to exist.
    #[error("the sandbox protects {path:?}, which does not exist, and its place can't be held: {source}")]
    Place {
        /// The name that is to stay missing.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl From<ConfineRefusal> for RpcError {
    fn from(refusal: ConfineRefusal) -> Self {
        Self::invalid_request(refusal.to_string())
    }
}

/// Prepares confinements for one server.
#[derive(Debug)]
pub struct Confiner {
    launcher: PathBuf,
    around: Surroundings,
    namespaces: NamespaceUse,
    without: Without,
    numbers: PidNamespace,
    without_namespaces: WithoutNamespaces,
    abilities: OnceLock<Abilities>,
    /// Why programs can have no network device, if they can't.
    devices: OnceLock<Result<(), String>>,
    kernel_mounts: KernelMounts,
    spares: Arc<Spares>,
}

impl Confiner {
    /// `launcher` is a binary that calls [`super::launcher::run`] when it is started as one: this program's own. Does
    /// no I/O.
    pub fn new(launcher: PathBuf, around: Surroundings, namespaces: NamespaceUse) -> Self {
        Self {
            launcher,
            around,
            namespaces,
            without: Without::default(),
            numbers: PidNamespace::default(),
            without_namespaces: WithoutNamespaces::default(),
            abilities: OnceLock::new(),
            devices: OnceLock::new(),
            kernel_mounts: KernelMounts::default(),
            spares: Arc::default(),
        }
    }

    /// Does without what may be there, for tests.
    #[must_use]
    pub fn without(self, without: Without) -> Self {
        Self { without, ..self }
    }

    /// Whose process numbers programs have; by default their own.
    #[must_use]
    pub fn process_numbers(self, numbers: PidNamespace) -> Self {
        Self { numbers, ..self }
    }

    /// What is done where there are no namespaces; by default profiles that need them are refused.
    #[must_use]
    pub fn without_namespaces(self, without_namespaces: WithoutNamespaces) -> Self {
        Self { without_namespaces, ..self }
    }

    /// The binary to start.
    pub fn launcher(&self) -> &Path {
        &self.launcher
    }

    /// What this machine can do. Tried out at the first call, which takes some milliseconds.
    pub fn abilities(&self) -> &Abilities {
        self.abilities.get_or_init(|| probe(&self.launcher, self.namespaces, self.without, self.numbers))
    }

    /// Whether programs can have a network device that their connections come out of (21.3), tried out at the first call.
    ///
    /// # Errors
    /// What is missing.
    pub fn network_devices(&self) -> Result<(), &str> {
        let tried = self.devices.get_or_init(|| network_device(&self.launcher, self.abilities()));
        tried.as_ref().copied().map_err(String::as_str)
    }

    /// As [`Self::network_devices`], as far as a look tells: no process is started.
    pub fn may_have_network_devices(&self) -> bool {
        let device = std::fs::OpenOptions::new().read(true).write(true).open(codex_tcp_stack::DEVICE_AT);
        device.is_ok() && self.glance().is_empty()
    }

    /// What surely can't be enforced, without trying anything out: no process is started. For the server's start.
    pub fn glance(&self) -> Vec<Limit> {
        glance(self.namespaces, self.without, self.numbers, self.without_namespaces)
    }

    /// What the sandbox allows, looked up now.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn policy(&self, sandbox: &Sandbox) -> Result<Policy, PolicyError> {
        self.policy_by(sandbox, &mut Lookups::default())
    }

    /// Where the kernel's own file systems are now; the same value as long as no mount came or went.
    pub(super) fn kernel_mounts(&self) -> Arc<[PathBuf]> {
        self.kernel_mounts.now()
    }

    /// As [`Self::policy`]; it stays the same as long as the lookups hold and the kernel mounts are the same.
    pub(super) fn policy_by(&self, sandbox: &Sandbox, lookups: &mut Lookups) -> Result<Policy, PolicyError> {
        resolve_by(sandbox, &self.around, &self.kernel_mounts(), lookups)
    }

    /// Prepares the enforcement of a policy.
    ///
    /// # Errors
    /// When this machine can't enforce all of it.
    pub fn confine(&self, policy: &Policy) -> Result<Confined, ConfineRefusal> {
        let planned = self.plan(policy)?;
        let leaves_names = planned.open.is_some();
        let (walls, held) = planned.hold(policy)?;
        let spares = Some(Arc::clone(&self.spares));
        Ok(Confined { confinement: Confinement::Walls(walls), held, leaves_names, spares })
    }

    /// As [`Self::confine`], for one file operation.
    pub(crate) fn confine_creating(&self, policy: &Policy) -> Result<(Walls, Held), ConfineRefusal> {
        self.plan(policy)?.hold(policy)
    }

    /// No confinement: for a program with bounds and without a sandbox.
    pub fn unconfined() -> Confined {
        Confined { confinement: Confinement::Off, held: Held::default(), leaves_names: false, spares: None }
    }

    /// As [`Self::confine`], for what never creates a name: no places need to be held.
    pub(crate) fn confine_reading(&self, policy: &Policy) -> Result<Walls, ConfineRefusal> {
        Ok(self.plan(policy)?.walls(policy, &Held::default()))
    }

    fn plan(&self, policy: &Policy) -> Result<Planned, ConfineRefusal> {
        let abilities = self.abilities();
        let refused = match abilities.plan(&Demand::of(policy)) {
            Ok(plan) => return Ok(Planned { plan, open: None }),
            Err(unheld) => ConfineRefusal::Machine { reason: unheld.reason() },
        };
        if self.without_namespaces == WithoutNamespaces::Refuse || abilities.has_namespaces() {
            return Err(refused);
        }
        let open = policy.without_protected_names();
        let Some(demand) = Demand::of_trees(open.as_ref().unwrap_or(policy)) else { return Err(refused) };
        let plan = abilities.plan(&demand);
        let plan = plan.map_err(|unheld| ConfineRefusal::Machine { reason: unheld.reason() })?;
        Ok(Planned { plan, open })
    }
}

/// How a policy is enforced.
struct Planned {
    plan: Plan,
    /// What is enforced instead, where names can't be protected.
    open: Option<Policy>,
}

impl Planned {
    fn walls(&self, policy: &Policy, held: &Held) -> Walls {
        let policy = self.open.as_ref().unwrap_or(policy);
        let Plan { namespaces, landlock, own_pids, .. } = self.plan;
        Walls { own_pids, ..Walls::new(policy, namespaces, landlock, held) }
    }

    /// Makes what has to be there on the disk, too.
    fn hold(&self, policy: &Policy) -> Result<(Walls, Held), ConfineRefusal> {
        let held = match &self.open.as_ref().unwrap_or(policy).files {
            Files::Rules(rules) => Held::new(rules.placeholders())
                .map_err(|(path, source)| ConfineRefusal::Place { path, source })?,
            Files::All => Held::default(),
        };
        Ok((self.walls(policy, &held), held))
    }
}
