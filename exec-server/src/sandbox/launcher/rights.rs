//! The kernel's own access rights (Landlock): which files, no network ports, no other program's signals or sockets.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::FileType;

use super::mounts;
use super::view::{self, Purpose};
use crate::sandbox::policy::{Access as Right, Region};
use crate::sandbox::situation::Landlock;
use crate::sandbox::task::{Failure, FileWalls, Granted, Namespaces, NetworkWalls, Stage, Walls};

/// The rights that a version knows, as far as they are made use of.
fn known(version: u8) -> ABI {
    match version {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => ABI::V6,
    }
}

/// Restricts this process and everything it becomes.
pub(super) fn restrict(walls: &Walls, purpose: Purpose) -> Result<(), Failure> {
    let Some(rules) = build(walls, purpose)? else { return Ok(()) };
    match rules.restrict_self() {
        Ok(status) if status.ruleset == RulesetStatus::FullyEnforced => Ok(()),
        Ok(_) => Err(fail("restrict itself", "the kernel enforces only a part")),
        Err(error) => Err(fail("restrict itself", error)),
    }
}

/// None if there is nothing that this version could restrict.
fn build(walls: &Walls, purpose: Purpose) -> Result<Option<RulesetCreated>, Failure> {
    let version = known(walls.landlock);
    let scopes = Scope::from_all(version);
    let ports = match walls.network {
        NetworkWalls::Closed => AccessNet::from_all(version),
        _ => BitFlags::EMPTY,
    };
    let files = if walls.restricts_files() { AccessFs::from_all(version) } else { BitFlags::EMPTY };
    if scopes.is_empty() && ports.is_empty() && files.is_empty() {
        return Ok(None);
    }
    let handled = || -> Result<RulesetCreated, RulesetError> {
        let mut rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        if !scopes.is_empty() {
            rules = rules.scope(scopes)?;
        }
        if !files.is_empty() {
            rules = rules.handle_access(files)?;
        }
        if !ports.is_empty() {
            rules = rules.handle_access(ports)?;
        }
        rules.create()
    };
    let created = handled().map_err(|error| fail("declare its rights", error))?;
    let rules = Rules { created, version };
    let rules = match &walls.files {
        FileWalls::Granted(granted) if !files.is_empty() => {
            grant_files(granted, walls.namespaces, purpose, rules)?
        }
        _ => rules,
    };
    Ok(Some(rules.created))
}

/// A set of rules, and the version whose rights it knows.
struct Rules {
    created: RulesetCreated,
    version: ABI,
}

fn fail(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::untold(Stage::Confine, format!("{what} ({error})"))
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir
}

/// Everything but making devices, and talking to those that there are.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI::V6) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

fn grant_files(
    granted: &Granted,
    namespaces: Namespaces,
    purpose: Purpose,
    mut rules: Rules,
) -> Result<Rules, Failure> {
    let base = rights_of(granted.base);
    if !base.is_empty() {
        rules = grant_root(rules, base, &granted.regions)?;
    } else if namespaces != Namespaces::None {
        // A root of its own holds nothing but what is granted.
        rules = grant(rules, Path::new("/"), AccessFs::ReadDir.into())?;
        rules = grant(rules, Path::new("/proc"), reading())?;
    } else {
        rules = grant(rules, Path::new("/proc"), reading())?;
    }
    for region in &granted.regions {
        // A disk is everything on it: devices are granted one by one.
        if region.path != Path::new("/dev") {
            rules = grant(rules, &region.path, rights_of(region.access))?;
        }
    }
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let own_terminal = view::own_terminal();
    if namespaces != Namespaces::None && purpose == Purpose::Program {
        rules = grant(rules, Path::new("/dev/shm"), writing())?;
        if own_terminal.is_none() {
            rules = grant(rules, Path::new("/dev/pts"), device | AccessFs::ReadDir)?;
            rules = grant(rules, Path::new("/dev/ptmx"), device)?;
        }
    }
    for path in view::DEVICES.iter().map(PathBuf::from).chain(own_terminal) {
        rules = grant(rules, &path, device)?;
    }
    Ok(rules)
}

fn rights_of(right: Right) -> BitFlags<AccessFs> {
    match right {
        Right::Hidden | Right::Denied => BitFlags::EMPTY,
        Right::Read => reading(),
        Right::Write => writing(),
    }
}

/// Grants everything but `/dev`, since a right on the root would hold for raw disks too, and what has a right of its own.
fn grant_root(mut rules: Rules, access: BitFlags<AccessFs>, regions: &[Region]) -> Result<Rules, Failure> {
    let content = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::Execute;
    rules = grant(rules, Path::new("/"), access & !content)?;
    let names = std::fs::read_dir("/").map_err(|error| fail("list the root", error))?;
    for name in names {
        let name = name.map_err(|error| fail("list the root", error))?;
        let is_apart = name.file_name() == "dev" || regions.iter().any(|region| region.path == name.path());
        if !is_apart && name.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            rules = grant(rules, &name.path(), access)?;
        }
    }
    grant(rules, Path::new("/dev/shm"), access)
}

/// Adds a rule for what is there; nothing for what is not.
fn grant(mut rules: Rules, path: &Path, access: BitFlags<AccessFs>) -> Result<Rules, Failure> {
    let access = access & AccessFs::from_all(rules.version);
    if access.is_empty() {
        return Ok(rules);
    }
    let shown = || format!("grant {}", path.display());
    let found = match mounts::open(path) {
        Ok(found) => found,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => {
            return Ok(rules);
        }
        Err(error) => return Err(Failure::new(Stage::Confine, shown(), &error)),
    };
    let kind = mounts::kind(&found).map_err(|error| Failure::new(Stage::Confine, shown(), &error))?;
    let access = match kind {
        FileType::Directory => access,
        _ => access & AccessFs::from_file(rules.version),
    };
    if access.is_empty() {
        return Ok(rules);
    }
    let rule = PathBeneath::new(found.as_fd(), access);
    rules.created = rules.created.add_rule(rule).map_err(|error| fail(&shown(), error))?;
    Ok(rules)
}

/// What this kernel says of its version.
pub(crate) fn version() -> Landlock {
    // SAFETY: with this flag the call takes no memory.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1_u32) };
    if answer >= 1 {
        return Landlock::Version(u8::try_from(answer).unwrap_or(u8::MAX));
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EOPNOTSUPP) => Landlock::Off,
        _ => Landlock::Absent,
    }
}
