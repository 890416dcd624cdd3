//! Finds out what the kernel, the container and the user let a server enforce.

use std::os::fd::AsFd;
use std::path::Path;

use codex_children::posix::Streams;
use codex_children::reap;

use super::confiner::NamespaceUse;
use super::launcher::supports;
use super::policy::{Access, Region};
use super::start::{self, NotStarted};
use super::task::{Confinement, FileWalls, Granted, LauncherTask, Namespaces, NetworkWalls, Walls, Work};

/// What can be enforced here.
#[derive(Debug)]
pub struct Abilities {
    /// The version of Landlock, 0 for none.
    pub(super) rights: i64,
    /// Whether there are system call filters.
    pub(super) filters: bool,
    /// The kind of namespaces that works, or why none does.
    pub(super) namespaces: Result<Namespaces, String>,
    /// Why there are no networks of programs' own.
    pub(super) networks: Result<(), String>,
    /// Why a launcher can't confine itself at all.
    pub(super) broken: Option<String>,
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
}

impl Abilities {
    fn unknown(rights: i64, filters: bool) -> Self {
        let untold = String::new();
        Self { rights, filters, namespaces: Err(untold.clone()), networks: Err(untold), broken: None }
    }

    /// Why nothing at all can be enforced, with the remedy.
    pub fn missing(&self) -> Option<String> {
        if self.rights < supports::NEEDED_VERSION {
            return Some(format!(
                "the kernel's Landlock has version {}, and {} is needed; \
                 run Linux 6.12 or later with `landlock` among its `lsm=` modules",
                self.rights,
                supports::NEEDED_VERSION
            ));
        }
        if !self.filters {
            return Some(
                "the kernel has no system call filters; run one with CONFIG_SECCOMP_FILTER".to_owned(),
            );
        }
        self.broken.clone()
    }

    /// Everything, for people.
    pub fn findings(&self) -> [Finding; 5] {
        let namespaces = match &self.namespaces {
            Ok(Namespaces::Privileged) => "as an administrator".to_owned(),
            Ok(Namespaces::User) => "with user namespaces".to_owned(),
            Ok(Namespaces::None) => "switched off".to_owned(),
            Err(why) => format!(
                "{why}; only profiles without writable and without denied paths are enforced, \
                 others refused. Allow user namespaces, or run the server with CAP_SYS_ADMIN"
            ),
        };
        let networks = match &self.networks {
            Ok(()) => "programs can have networks of their own".to_owned(),
            Err(why) => format!(
                "{why}; sandboxes with a filtered network are refused. Allow user namespaces, or run the server with \
                 CAP_SYS_ADMIN and CAP_NET_ADMIN"
            ),
        };
        let enforced = self.missing();
        [
            Finding {
                what: "Landlock",
                good: self.rights >= supports::NEEDED_VERSION,
                said: format!("version {} (needs {})", self.rights, supports::NEEDED_VERSION),
            },
            Finding {
                what: "seccomp",
                good: self.filters,
                said: if self.filters { "filters work" } else { "no filters" }.to_owned(),
            },
            Finding { what: "namespaces", good: self.namespaces.is_ok(), said: namespaces },
            Finding { what: "networks", good: self.networks.is_ok(), said: networks },
            Finding {
                what: "sandbox",
                good: enforced.is_none(),
                said: enforced.unwrap_or_else(|| "is enforced".to_owned()),
            },
        ]
    }
}

/// What the kernel says of itself, its settings and this user.
pub(super) fn glance(allowed: NamespaceUse) -> Vec<String> {
    let (rights, filters) = (supports::version(), supports::filters());
    let abilities = Abilities::unknown(rights, filters);
    let mut limits: Vec<String> = abilities.missing().into_iter().collect();
    let number =
        |setting: &str| -> Option<u64> { std::fs::read_to_string(setting).ok()?.trim().parse().ok() };
    let forbidden = number("/proc/sys/user/max_user_namespaces") == Some(0)
        || number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0);
    let administrator = rustix::thread::capabilities(None)
        .is_ok_and(|held| held.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    let usable = match allowed {
        NamespaceUse::Any => administrator || !forbidden,
        NamespaceUse::UserOnly => !forbidden,
        NamespaceUse::Off => false,
    };
    if !usable {
        limits.push(
            "there are no namespaces, so only profiles without writable and without denied paths run".into(),
        );
    }
    limits
}

/// Tries everything out in launchers that confine themselves and end.
pub(super) fn probe(launcher: &Path, allowed: NamespaceUse) -> Abilities {
    let rights = supports::version();
    let filters = supports::filters();
    let mut abilities = Abilities::unknown(rights, filters);
    if abilities.missing().is_some() {
        abilities.namespaces = Err("was not tried".to_owned());
        abilities.networks = Err("was not tried".to_owned());
        return abilities;
    }
    abilities.namespaces = namespaces(launcher, allowed);
    if abilities.namespaces.is_err() {
        // Otherwise it has shown that it works.
        abilities.broken = attempt(launcher, Namespaces::None).err();
    }
    abilities.networks = match &abilities.namespaces {
        Ok(namespaces) => {
            let network = NetworkWalls::Own { listen: Vec::new() };
            let empty = Walls { namespaces: *namespaces, files: FileWalls::All, network };
            start(launcher, empty).map_err(|why| format!("there is none: {why}"))
        }
        Err(why) => Err(why.clone()),
    };
    abilities
}

fn namespaces(launcher: &Path, allowed: NamespaceUse) -> Result<Namespaces, String> {
    if allowed == NamespaceUse::Off {
        return Err("namespaces are switched off".to_owned());
    }
    if allowed == NamespaceUse::Any && attempt(launcher, Namespaces::Privileged).is_ok() {
        return Ok(Namespaces::Privileged);
    }
    attempt(launcher, Namespaces::User)
        .map(|()| Namespaces::User)
        .map_err(|why| format!("there is none: {why}"))
}

/// A confinement that needs every kind of mount: read-only, writable, covered.
fn attempt(launcher: &Path, namespaces: Namespaces) -> Result<(), String> {
    let region = |path: &str, access| Region { path: path.into(), access };
    for (base, usr) in [(Access::Hidden, Access::Read), (Access::Read, Access::Write)] {
        let mut regions = vec![region("/usr", usr)];
        if namespaces != Namespaces::None {
            regions.push(region("/usr/bin", Access::Denied));
        }
        regions.retain(|region| region.path.exists());
        let files = FileWalls::Granted(Granted { base, regions, links: Vec::new() });
        start(launcher, Walls { namespaces, files, network: NetworkWalls::Closed })?;
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
