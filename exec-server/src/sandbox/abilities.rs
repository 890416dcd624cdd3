//! Finds out what the kernel, the container and the user let a server enforce, and holds the table of promises against it.

use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use codex_children::posix::Streams;
use codex_children::reap;

use super::confiner::{NamespaceUse, PidNamespace, WithoutNamespaces};
use super::launcher::supports;
use super::policy::{Access, NetworkRight, Region};
use super::promises::{Demand, FileDemand, Held, Mechanism, NEWEST_LANDLOCK, Promise, hold, ways};
use super::situation::{Landlock, Remedy, Situation};
use super::start::{self, NotStarted};
use super::task::{Confinement, FileWalls, Granted, LauncherTask, Namespaces, NetworkWalls, Walls, Work};

/// What can be enforced here.
#[derive(Debug)]
pub struct Abilities {
    situation: Situation,
    /// The version of Landlock that is used, 0 for none.
    landlock: u8,
    /// Whether there are system call filters.
    filters: bool,
    /// The kind of namespaces that works, or why none does.
    namespaces: Result<Namespaces, String>,
    /// Why there are no networks of programs' own.
    networks: Result<(), String>,
    /// Why there are no processes of programs' own.
    pids: Result<(), String>,
    /// Why a launcher can't confine itself at all.
    broken: Option<String>,
}

const SWITCHED_OFF: &str = "namespaces are switched off";
/// Said where [`PidNamespace::Inherit`] is asked for.
const INHERITED: &str =
    "programs are to share the server's process numbers (--linux-sandbox-pid-namespace inherit)";

/// What to do without though it may be there, so that tests see what holds then. No client can ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Without {
    /// The newest version of Landlock that counts.
    landlock: u8,
    networks: bool,
    pids: bool,
    filters: bool,
}

impl Default for Without {
    fn default() -> Self {
        Self { landlock: NEWEST_LANDLOCK, networks: false, pids: false, filters: false }
    }
}

impl FromStr for Without {
    type Err = String;

    /// Names with commas: `landlock`, `landlock=N` for what is newer than version N, `network-namespace`,
    /// `pid-namespace`, `seccomp`.
    fn from_str(names: &str) -> Result<Self, String> {
        let mut without = Self::default();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name.split_once('=') {
                None if name == "landlock" => without.landlock = 0,
                None if name == "network-namespace" => without.networks = true,
                None if name == "pid-namespace" => without.pids = true,
                None if name == "seccomp" => without.filters = true,
                Some(("landlock", newest)) => {
                    without.landlock = newest.parse().map_err(|_| format!("{newest:?} is no version"))?;
                }
                _ => return Err(format!("{name:?} is no mechanism that can be left out")),
            }
        }
        Ok(without)
    }
}

/// What can't be enforced here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What and why, and what to do, as a clause.
    pub reason: String,
    /// What to paste into a shell, or into the file that a comment names.
    pub commands: Vec<String>,
}

impl From<&Unheld> for Limit {
    fn from(unheld: &Unheld) -> Self {
        Self { reason: unheld.reason(), commands: unheld.remedy.commands.clone() }
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is as it should be.
    pub good: bool,
    /// What was found, and what would help.
    pub said: String,
    /// What to paste to cure it.
    pub commands: Vec<String>,
}

/// How a policy is enforced.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) namespaces: Namespaces,
    pub(super) landlock: u8,
    pub(super) own_pids: bool,
    held: Vec<Held>,
}

/// A promise that nothing here holds.
#[derive(Debug, Clone)]
pub(super) struct Unheld {
    promise: &'static Promise,
    remedy: Remedy,
}

impl Unheld {
    /// What is missing, and what helps.
    pub(super) fn reason(&self) -> String {
        let (name, ways) = (self.promise.name, ways(self.promise));
        format!("its promise of {name} ({}) takes {ways}; {}", self.promise.what, self.remedy.why)
    }
}

/// The usual policies, by the names that people know them by.
const USUAL: [(&str, Demand); 4] = [
    ("read-only", Demand::READ_ONLY),
    ("workspace-write", Demand::WORKSPACE),
    ("full access to files, no network", Demand::OFFLINE),
    ("workspace-write, filtered network", Demand::FILTERED),
];

impl Abilities {
    fn unknown(situation: Situation, without: Without) -> Self {
        let landlock = match situation.landlock {
            Landlock::Absent | Landlock::Off => 0,
            Landlock::Version(version) => version.min(NEWEST_LANDLOCK).min(without.landlock),
        };
        let untold = || Err("was not tried".to_owned());
        Self {
            situation,
            landlock,
            filters: supports::filters() && !without.filters,
            namespaces: untold().map(|()| Namespaces::None),
            networks: untold(),
            pids: untold(),
            broken: None,
        }
    }

    /// Whether there are namespaces of any kind.
    pub(super) fn has_namespaces(&self) -> bool {
        self.namespaces.is_ok()
    }

    /// How to enforce what is asked for.
    pub(super) fn plan(&self, demand: &Demand) -> Result<Plan, Unheld> {
        // Version 1 forbids each rename and link between directories, also where both may be written.
        let is_hindrance = self.landlock == 1 && demand.files == FileDemand::Parts;
        let landlock = if is_hindrance && self.namespaces.is_ok() { 0 } else { self.landlock };
        let is_there = |mechanism| match mechanism {
            _ if self.broken.is_some() => false,
            Mechanism::MountNamespace | Mechanism::IpcNamespace => self.namespaces.is_ok(),
            Mechanism::PidNamespace => self.pids.is_ok(),
            // Nothing else is given one.
            Mechanism::NetworkNamespace => self.networks.is_ok() && demand.network == NetworkRight::Filtered,
            Mechanism::Landlock(version) => landlock >= version,
            Mechanism::Seccomp => self.filters,
        };
        let unheld = |promise| Unheld { promise, remedy: self.remedy_for(promise) };
        let held = hold(demand, is_there).map_err(unheld)?;
        let namespaces = self.namespaces.as_ref().copied().unwrap_or(Namespaces::None);
        // Also where nothing needs it: it keeps `/proc` of others out of sight.
        Ok(Plan { namespaces, landlock, own_pids: self.pids.is_ok(), held })
    }

    /// Why nothing at all can be enforced, with the remedy.
    pub fn missing(&self) -> Option<String> {
        let refused: Option<Vec<Unheld>> = USUAL.iter().map(|(_, demand)| self.plan(demand).err()).collect();
        refused?.first().map(Unheld::reason)
    }

    /// What would let a promise be held.
    fn remedy_for(&self, promise: &Promise) -> Remedy {
        if let Some(why) = &self.broken {
            return Remedy { why: why.clone(), commands: Vec::new() };
        }
        let ones = || promise.held_by.iter().flat_map(|way| way.iter().copied());
        let has = |wanted: Mechanism| ones().any(|one| one == wanted);
        if !self.filters {
            // Nothing else was tried.
            return self.situation.seccomp();
        }
        let mut remedy = match &self.namespaces {
            Err(why) if why == SWITCHED_OFF => Remedy::default().after(why),
            Err(why) => self.situation.namespaces().after(why),
            Ok(_) if has(Mechanism::PidNamespace) => match &self.pids {
                Err(why) if why == INHERITED => Remedy::default().after(why),
                Err(why) => self.situation.pid_namespaces().after(why),
                Ok(()) => Remedy::default(),
            },
            Ok(_) => match &self.networks {
                Err(why) if has(Mechanism::NetworkNamespace) => self.situation.networks().after(why),
                _ => Remedy::default(),
            },
        };
        let versions = ones().filter_map(|one| match one {
            Mechanism::Landlock(version) => Some(version),
            _ => None,
        });
        if let Some(version) = versions.max().filter(|version| *version > self.landlock) {
            remedy.or(self.situation.landlock(version));
        }
        remedy
    }

    /// Everything, for people.
    pub fn findings(&self) -> Vec<Finding> {
        let rows = USUAL.map(|(name, demand)| (name, self.plan(&demand)));
        let all_held = rows.iter().all(|(_, plan)| plan.is_ok());
        let mut findings = self.mechanisms(all_held);
        findings.extend(rows.into_iter().map(|(what, plan)| match plan {
            Ok(plan) => Finding {
                what,
                good: true,
                said: format!("enforced by {}", plan.words()),
                commands: Vec::new(),
            },
            Err(unheld) => Finding {
                what,
                good: false,
                said: format!("refused: {}", unheld.reason()),
                commands: unheld.remedy.commands,
            },
        }));
        findings.extend(self.without_names());
        findings
    }

    /// What is possible all the same, where there are no namespaces.
    fn without_names(&self) -> Option<Finding> {
        let helps = !self.has_namespaces() && self.plan(&Demand::TREES).is_ok();
        let said = "all of workspace-write but the protection of .git, .codex and .agents is enforced with \
             --without-namespaces unprotected-names (exec_server.sandbox.without_namespaces)";
        let what = "without namespaces";
        helps.then(|| Finding { what, good: true, said: said.to_owned(), commands: Vec::new() })
    }

    fn mechanisms(&self, all_held: bool) -> Vec<Finding> {
        let version = |version: u8| format!("version {version}");
        let landlock = match (self.situation.landlock, self.landlock) {
            (Landlock::Absent, _) => "the kernel has none".to_owned(),
            (Landlock::Off, _) => "in the kernel, but not switched on at boot".to_owned(),
            (Landlock::Version(there), used) if there == used => version(there),
            (Landlock::Version(there), used) => format!("{}, used as {used}", version(there)),
        };
        let told = |result: Result<&str, &String>| result.map_or_else(Clone::clone, str::to_owned);
        let namespaces = self.namespaces.as_ref().map(|kind| match kind {
            Namespaces::Privileged => "as an administrator",
            Namespaces::User => "with user namespaces",
            Namespaces::None => "switched off",
        });
        let networks = self.networks.as_ref().map(|()| "programs can have networks of their own");
        let pids = self.pids.as_ref().map(|()| "programs can have processes of their own");
        let filters = if self.filters { "filters work" } else { "no filters" };
        let finding = |what, good, said| Finding { what, good, said, commands: Vec::new() };
        vec![
            // A second wall where the others stand.
            finding("Landlock", self.landlock == NEWEST_LANDLOCK || all_held, landlock),
            finding("seccomp", self.filters, filters.to_owned()),
            finding("namespaces", self.namespaces.is_ok(), told(namespaces)),
            finding("networks", self.networks.is_ok(), told(networks)),
            finding("processes", self.pids.is_ok() || all_held, told(pids)),
        ]
    }
}

impl Plan {
    /// Which mechanism holds what: `mount namespace (writes inside, devices), seccomp (terminals)`.
    fn words(&self) -> String {
        let mut ways: Vec<(&[Mechanism], Vec<&str>)> = Vec::new();
        for held in &self.held {
            match ways.iter_mut().find(|(way, _)| *way == held.by) {
                Some((_, names)) => names.push(held.promise.name),
                None => ways.push((held.by, vec![held.promise.name])),
            }
        }
        let way = |(way, names): &(&[Mechanism], Vec<&str>)| {
            let way: Vec<String> = way.iter().map(Mechanism::to_string).collect();
            format!("{} ({})", way.join(" and "), names.join(", "))
        };
        ways.iter().map(way).collect::<Vec<_>>().join("; ")
    }
}

/// What is said of [`WithoutNamespaces::UnprotectedNames`].
const UNPROTECTED: &str = "there are no namespaces, so `.git`, `.codex` and `.agents` of a writable workspace are not protected \
     (exec_server.sandbox.without_namespaces), and profiles that deny or close something inside of what is more open are refused";

/// What the kernel says of itself, its settings and this user.
pub(super) fn glance(
    allowed: NamespaceUse,
    without: Without,
    numbers: PidNamespace,
    without_namespaces: WithoutNamespaces,
) -> Vec<Limit> {
    let situation = Situation::look(supports::landlock());
    let usable = match allowed {
        NamespaceUse::Any => situation.is_administrator || !situation.forbids_user_namespaces(),
        NamespaceUse::UserOnly => !situation.forbids_user_namespaces(),
        NamespaceUse::Off => false,
    };
    let mut abilities = Abilities::unknown(situation, without);
    if usable {
        abilities.namespaces = Ok(Namespaces::User);
        abilities.networks = Ok(());
        abilities.pids = match numbers {
            PidNamespace::Isolate => Ok(()),
            PidNamespace::Inherit => Err(INHERITED.to_owned()),
        };
    } else {
        abilities.namespaces = Err("there are none".to_owned());
    }
    let refused = [Demand::READ_ONLY, Demand::WORKSPACE].map(|demand| abilities.plan(&demand).err());
    let mut limits: Vec<Limit> = refused.iter().flatten().map(Limit::from).collect();
    limits.dedup();
    if !usable && without_namespaces == WithoutNamespaces::UnprotectedNames {
        limits.retain(|_| false);
        if let Err(unheld) = abilities.plan(&Demand::TREES) {
            limits.push(Limit::from(&unheld));
        }
        limits.push(Limit { reason: UNPROTECTED.to_owned(), commands: Vec::new() });
    }
    limits
}

/// Tries everything out in launchers that confine themselves and end.
pub(super) fn probe(
    launcher: &Path,
    allowed: NamespaceUse,
    without: Without,
    numbers: PidNamespace,
) -> Abilities {
    let mut abilities = Abilities::unknown(Situation::look(supports::landlock()), without);
    if !abilities.filters {
        return abilities;
    }
    let landlock = abilities.landlock;
    abilities.namespaces = namespaces(launcher, allowed, landlock);
    if abilities.namespaces.is_err() {
        // Otherwise it has shown that it works.
        abilities.broken = attempt(launcher, Namespaces::None, landlock).err();
    }
    abilities.networks = match &abilities.namespaces {
        Ok(_) if without.networks => Err("network namespaces are switched off".to_owned()),
        Ok(namespaces) => {
            let network = NetworkWalls::own(false);
            let empty =
                Walls { namespaces: *namespaces, landlock, files: FileWalls::All, network, own_pids: false };
            start(launcher, empty).map_err(|why| format!("there is none: {why}"))
        }
        Err(why) => Err(why.clone()),
    };
    abilities.pids = match &abilities.namespaces {
        Ok(_) if numbers == PidNamespace::Inherit => Err(INHERITED.to_owned()),
        Ok(_) if without.pids => Err("PID namespaces are switched off".to_owned()),
        Ok(namespaces) => {
            let (files, network) = (FileWalls::All, NetworkWalls::Closed);
            let apart = Walls { namespaces: *namespaces, landlock: 0, files, network, own_pids: true };
            start(launcher, apart).map_err(|why| format!("there is none: {why}"))
        }
        Err(why) => Err(why.clone()),
    };
    abilities
}

/// Tries out whether a program can have a network device of its own.
pub(super) fn network_device(launcher: &Path, abilities: &Abilities) -> Result<(), String> {
    abilities.networks.clone()?;
    let (namespaces, landlock) = (abilities.namespaces.clone()?, abilities.landlock);
    let network = NetworkWalls::own(true);
    start(launcher, Walls { namespaces, landlock, files: FileWalls::All, network, own_pids: false })
}

fn namespaces(launcher: &Path, allowed: NamespaceUse, landlock: u8) -> Result<Namespaces, String> {
    if allowed == NamespaceUse::Off {
        return Err(SWITCHED_OFF.to_owned());
    }
    if allowed == NamespaceUse::Any && attempt(launcher, Namespaces::Privileged, landlock).is_ok() {
        return Ok(Namespaces::Privileged);
    }
    attempt(launcher, Namespaces::User, landlock)
        .map(|()| Namespaces::User)
        .map_err(|why| format!("there is none: {why}"))
}

/// A confinement that needs every kind of mount: read-only, writable, covered.
fn attempt(launcher: &Path, namespaces: Namespaces, landlock: u8) -> Result<(), String> {
    let region = |path: &str, access| Region { path: path.into(), access };
    for (base, usr) in [(Access::Hidden, Access::Read), (Access::Read, Access::Write)] {
        let mut regions = vec![region("/usr", usr)];
        if namespaces != Namespaces::None {
            regions.push(region("/usr/bin", Access::Denied));
        }
        regions.retain(|region| region.path.exists());
        let files = FileWalls::Granted(Granted { base, regions, links: Vec::new() });
        let network = NetworkWalls::Closed;
        start(launcher, Walls { namespaces, landlock, files, network, own_pids: false })?;
    }
    Ok(())
}

/// Has a launcher confine itself.
fn start(launcher: &Path, walls: Walls) -> Result<(), String> {
    let task = LauncherTask { confinement: Confinement::Walls(walls), work: Work::Probe };
    let null = start::null().map_err(|error| format!("/dev/null: {error}"))?;
    match start::start(launcher, &task, Streams::Each([null.as_fd(); 3])) {
        Ok(started) => {
            reap::wait_for_killed(started.spawned.pid);
            Ok(())
        }
        Err(NotStarted::System(what, error)) => Err(format!("can't {what}: {error}")),
        Err(NotStarted::Failed(failure)) => Err(format!("can't {}: {}", failure.what, failure.error())),
    }
}
