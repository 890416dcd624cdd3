//! Finds out what the kernel, the container and the user let a server enforce.

use std::path::Path;

use codex_children::posix::Streams;
use codex_children::reap;

use super::confiner::NamespaceUse;
use super::descriptors::spare;
use super::launcher::supports;
use super::start::{self, NotStarted};
use super::task::{Area, Confinement, LauncherTask, Namespaces, Right, Work};

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
            let empty = Confinement {
                namespaces: (*namespaces).into(),
                base: Right::Write.into(),
                own_network: true,
                ..Confinement::default()
            };
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
    for base in [Right::Nothing, Right::Read] {
        let mut regions =
            vec![Area::new(Path::new("/usr"), if base == Right::Read { Right::Write } else { Right::Read })];
        if namespaces != Namespaces::None {
            regions.push(Area::new(Path::new("/usr/bin"), Right::Nothing));
        }
        let confinement = Confinement {
            namespaces: namespaces.into(),
            files: true,
            base: base.into(),
            regions: regions.into_iter().filter(|region| region.path().exists()).collect(),
            ..Confinement::default()
        };
        start(launcher, confinement)?;
    }
    Ok(())
}

/// Has a launcher confine itself.
fn start(launcher: &Path, confinement: Confinement) -> Result<(), String> {
    let task = LauncherTask { confinement, work: Some(Work::Probe(true)) };
    let null = std::fs::File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    let null = spare(&null).map_err(|error| error.to_string())?;
    let fd = std::os::fd::AsFd::as_fd(&null);
    match start::start(launcher, &task, Streams::Each([fd, fd, fd]), None) {
        Ok(spawned) => {
            reap::wait_for_killed(spawned.pid);
            Ok(())
        }
        Err(NotStarted::System(what, error)) => Err(format!("can't {what}: {error}")),
        Err(NotStarted::Failed(failure)) => Err(format!("can't {}: {}", failure.what, failure.error())),
    }
}
