//! The program's own view of the file system: what is closed inside something more open is mounted over, what is read-only
//! is so by its mount, and what no rule mentions is not there.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::mounts::{self, Covers};
use super::streams;
use crate::sandbox::policy::{Access, Region};
use crate::sandbox::task::{Failure, FileWalls, Granted, Namespaces, Stage, Walls};

/// Where devices are devices.
const DEVICES_AT: &str = "/dev";
/// Where terminals are.
const TERMINALS_AT: &str = "/dev/pts";
/// What makes a terminal.
const MULTIPLEXER: &str = "/dev/ptmx";

/// Devices that do no harm.
pub(super) const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// What is mounted at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    /// What is there, as it is.
    Same,
    /// What is there, read-only.
    ReadOnly,
    /// Something empty.
    Cover,
}

/// Whom a view is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A program. It gets shared memory and terminals that nobody else sees.
    Program,
    /// File operations, which do at a path what is done there outside. Stdin, stdout and stderr are the helper's own.
    Files,
}

/// Enters namespaces of its own and builds the view in them.
pub(super) fn enter(walls: &Walls, purpose: Purpose) -> Result<(), Failure> {
    let look = || if purpose == Purpose::Program { Some(streams::look(walls)).transpose() } else { Ok(None) };
    if walls.namespaces == Namespaces::None {
        return look().map(drop);
    }
    unshare(walls.namespaces, walls.has_own_network())
        .map_err(|error| fail("enter namespaces of its own", &error))?;
    let root = mounts::open(Path::new("/")).map_err(|error| fail("open the root", &error))?;
    mounts::make_private(&root).map_err(|error| fail("keep mounts apart", &error))?;
    let given = look()?;
    let FileWalls::Granted(granted) = &walls.files else { return Ok(()) };
    if granted.base.is_none() {
        of_its_own(granted, purpose)?;
    } else {
        whole(granted, &root, purpose)?;
    }
    given.map_or(Ok(()), streams::Given::reopen)
}

fn fail(what: impl Into<String>, error: &io::Error) -> Failure {
    Failure::new(Stage::Confine, what, error)
}

fn at(what: &str, path: &Path, error: &io::Error) -> Failure {
    fail(format!("{what} {}", path.display()), error)
}

fn unshare(namespaces: Namespaces, own_network: bool) -> io::Result<()> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if namespaces == Namespaces::User {
        flags |= UnshareFlags::NEWUSER;
    }
    if own_network {
        flags |= UnshareFlags::NEWNET;
    }
    // SAFETY: no descriptor table is parted.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    if namespaces == Namespaces::User {
        // Oneself and nobody else: all that an ordinary user may say.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    Ok(())
}

/// The ordinary root with mounts where the regions ask for them. Devices are mere names but for the harmless ones, and for
/// what a region names below `/dev`.
fn whole(granted: &Granted, root: &OwnedFd, purpose: Purpose) -> Result<(), Failure> {
    let mut wanted = mounts_of(granted.base, &granted.regions);
    add_devices(&mut wanted);
    // All of it before anything changes, so that each keeps the flags that it has outside.
    let trees = clone_all(wanted.iter().map(|(path, mount)| (path.as_path(), *mount)))?;
    if granted.base == Access::Read {
        mounts::make_read_only(root).map_err(|error| fail("make everything read-only", &error))?;
    }
    mounts::close_devices(root).map_err(|error| fail("close devices", &error))?;
    let own = own_devices(purpose)?.into_iter().filter(|(path, _)| path.is_dir());
    let mut all: Vec<(PathBuf, OwnedFd)> = own.chain(trees).collect();
    // Parents first.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let has_terminals = all.iter().any(|(path, _)| path == Path::new(TERMINALS_AT));
    for (path, tree) in all {
        let on = mounts::open(&path).map_err(|error| at("open", &path, &error))?;
        mounts::attach(tree, on).map_err(|error| at("mount over", &path, &error))?;
    }
    if has_terminals {
        own_multiplexer().map_err(|error| fail("make terminals of its own", &error))
    } else {
        Ok(())
    }
}

/// `/dev/ptmx` where it is a device, which is closed: that of the terminals of one's own is mounted over it.
fn own_multiplexer() -> io::Result<()> {
    let Ok(device) = mounts::open(Path::new(MULTIPLEXER)) else { return Ok(()) };
    if mounts::kind(&device)? != FileType::CharacterDevice {
        return Ok(());
    }
    let own = mounts::open(&Path::new(TERMINALS_AT).join("ptmx"))?;
    mounts::attach(mounts::clone(own)?, device)
}

/// Devices that every program may have, unless a rule says otherwise.
fn add_devices(wanted: &mut BTreeMap<PathBuf, Mount>) {
    for device in DEVICES.iter().map(PathBuf::from).chain(own_terminal()).filter(|device| device.exists()) {
        // That keeps its mode and owner; what is written to a device is not written to the mount.
        wanted.entry(device).or_insert(Mount::ReadOnly);
    }
}

/// Shared memory that nobody else sees, and terminals too. One that runs on a terminal keeps the name of that instead,
/// and can make no others.
fn own_devices(purpose: Purpose) -> Result<Vec<(PathBuf, OwnedFd)>, Failure> {
    if purpose == Purpose::Files {
        return Ok(Vec::new());
    }
    let memory = mounts::memory(c"1777").map_err(|error| fail("make shared memory of its own", &error))?;
    let mut own = vec![(PathBuf::from("/dev/shm"), memory)];
    if own_terminal().is_none() {
        let terminals = mounts::terminals().map_err(|error| fail("make terminals of its own", &error))?;
        own.push((PathBuf::from(TERMINALS_AT), terminals));
    }
    Ok(own)
}

/// The terminal that the program runs on.
pub(super) fn own_terminal() -> Option<PathBuf> {
    let path = std::fs::read_link("/proc/self/fd/0").ok()?;
    path.starts_with("/dev/pts").then_some(path)
}

/// Which mounts the regions need, parents first.
fn mounts_of(base: Access, regions: &[Region]) -> BTreeMap<PathBuf, Mount> {
    let mut wanted = BTreeMap::new();
    for (index, region) in regions.iter().enumerate() {
        let outer = regions[..index].iter().rev().find(|outer| region.path.starts_with(&outer.path));
        let (top, around) =
            outer.map_or((Path::new("/"), base), |outer| (outer.path.as_path(), outer.access));
        let mount = match region.access {
            Access::Write => Mount::Same,
            Access::Read => Mount::ReadOnly,
            Access::Hidden | Access::Denied => Mount::Cover,
        };
        wanted.insert(region.path.clone(), mount);
        if around == Access::Write {
            // A directory on the way to it could be renamed, and another put in its place. A mount can't.
            let between = region.path.ancestors().skip(1).take_while(|path| *path != top);
            for path in between {
                wanted.entry(path.to_owned()).or_insert(Mount::Same);
            }
        }
    }
    wanted
}

fn clone_all<'p>(
    wanted: impl Iterator<Item = (&'p Path, Mount)>,
) -> Result<Vec<(PathBuf, OwnedFd)>, Failure> {
    let mut covers = None;
    let mut trees = Vec::new();
    for (path, mount) in wanted {
        let found = mounts::open(path).map_err(|error| at("open", path, &error))?;
        // All of `/dev` has disks, too.
        let with_devices = path.starts_with(DEVICES_AT) && path != Path::new(DEVICES_AT);
        let tree = match mount {
            Mount::Same => mounts::clone(&found),
            Mount::ReadOnly => read_only_clone(&found),
            Mount::Cover => {
                covers.take().map_or_else(Covers::new, Ok).and_then(|made| covers.insert(made).cover(&found))
            }
        };
        let tree = tree.and_then(|tree| {
            if !with_devices {
                mounts::close_devices(&tree)?;
            }
            Ok(tree)
        });
        trees.push((path.to_owned(), tree.map_err(|error| at("take a copy of", path, &error))?));
    }
    Ok(trees)
}

fn read_only_clone(found: &OwnedFd) -> io::Result<OwnedFd> {
    let tree = mounts::clone(found)?;
    mounts::make_read_only(&tree)?;
    Ok(tree)
}

/// A new root with what the regions name, and the few things that every program expects.
fn of_its_own(granted: &Granted, purpose: Purpose) -> Result<(), Failure> {
    let mut wanted = mounts_of(Access::Hidden, &granted.regions);
    wanted.entry("/proc".into()).or_insert(Mount::ReadOnly);
    add_devices(&mut wanted);
    let trees = clone_all(wanted.iter().map(|(path, mount)| (path.as_path(), *mount)))?;
    let root = mounts::memory(c"0755").map_err(|error| fail("make a root of its own", &error))?;
    let old = mounts::open(Path::new("/")).map_err(|error| fail("open the root", &error))?;
    mounts::attach(&root, old).map_err(|error| fail("mount a root of its own", &error))?;
    for (path, tree) in own_devices(purpose)?.into_iter().chain(trees) {
        let mount = || -> io::Result<()> {
            let below = below_root(&path);
            match mounts::open_below(&root, below) {
                Ok(on) => mounts::attach(&tree, on),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    make_place(&root, below, mounts::kind(&tree)?)?;
                    mounts::attach(&tree, mounts::open_below(&root, below)?)
                }
                Err(error) => Err(error),
            }
        };
        mount().map_err(|error| at("mount", &path, &error))?;
    }
    for link in &granted.links {
        let made = || make_link(&root, below_root(&link.at), &link.text);
        made().map_err(|error| at("make the symlink", &link.at, &error))?;
    }
    for (name, text) in [
        ("dev/ptmx", "pts/ptmx"),
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "fd/0"),
        ("dev/stdout", "fd/1"),
        ("dev/stderr", "fd/2"),
    ] {
        make_link(&root, Path::new(name), Path::new(text))
            .map_err(|error| at("make", Path::new(name), &error))?;
    }
    make_directories(&root, Path::new("tmp")).map_err(|error| fail("make /tmp", &error))?;
    seal(&root).map_err(|error| fail("make the root read-only", &error))?;
    mounts::make_root(&root).map_err(|error| fail("enter the root of its own", &error))
}

/// Only the new root itself: what is mounted in it has its own flags.
fn seal(root: &OwnedFd) -> io::Result<()> {
    mounts::make_itself_read_only(root)
}

fn below_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Makes an empty directory or file to mount on.
fn make_place(root: &OwnedFd, path: &Path, kind: FileType) -> io::Result<()> {
    if kind == FileType::Directory {
        return make_directories(root, path);
    }
    make_directories(root, path.parent().unwrap_or(Path::new("")))?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root, path, flags, Mode::from_raw_mode(0o444))?;
    Ok(())
}

fn make_directories(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let mut so_far = PathBuf::new();
    for name in path {
        so_far.push(name);
        match rustix::fs::mkdirat(root.as_fd(), &so_far, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes a symlink, unless its place is in something mounted, which has it already.
fn make_link(root: &OwnedFd, at: &Path, text: &Path) -> io::Result<()> {
    let parent = at.parent().unwrap_or(Path::new(""));
    match make_directories(root, parent).and_then(|()| Ok(rustix::fs::symlinkat(text, root, at)?)) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EROFS)) => Ok(()),
        Err(error) => Err(error),
    }
}
