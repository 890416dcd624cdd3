//! The program's own view of the file system: what is closed inside something more open is mounted over, what is read-only
//! is so by its mount, and what no rule mentions is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::thread::UnshareFlags;

use super::layout::{Layout, Mount, SHARED_MEMORY};
use super::mount_points::{self, MountPoints};
use super::mounts::{self, Covers};
use super::{pins, procfs, queues, streams};
use crate::sandbox::kernel_mounts;
use crate::sandbox::policy::Access;
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

/// Whom a view is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A program. It gets shared memory and terminals that nobody else sees.
    Program,
    /// File operations, which do at a path what is done there outside. Stdin, stdout and stderr are the helper's own.
    Files,
}

/// Enters namespaces of its own and builds the view in them; `before` comes when mounts are apart and nothing is hidden.
pub(super) fn enter(
    walls: &Walls,
    purpose: Purpose,
    cwd: Option<&Path>,
    before: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let look = || if purpose == Purpose::Program { Some(streams::look(walls)).transpose() } else { Ok(None) };
    if walls.namespaces == Namespaces::None {
        return look().map(drop);
    }
    let network = if walls.has_own_network() { UnshareFlags::NEWNET } else { UnshareFlags::empty() };
    // With processes of its own it is in a user namespace already, and in one for IPC.
    let (kind, ipc) = if walls.own_pids {
        (Namespaces::Privileged, UnshareFlags::empty())
    } else {
        (walls.namespaces, UnshareFlags::NEWIPC)
    };
    unshare(kind, UnshareFlags::NEWNS | ipc | network)
        .map_err(|error| fail("enter namespaces of its own", &error))?;
    let root = mounts::open(Path::new("/")).map_err(|error| fail("open the root", &error))?;
    mounts::make_private(&root).map_err(|error| fail("keep mounts apart", &error))?;
    before()?;
    let mounted = kernel_mounts::all_mounted().map_err(|error| fail("look at what is mounted", &error))?;
    if walls.own_pids {
        procfs::replace(&mounted).map_err(|error| fail("mount /proc of its own", &error))?;
    }
    queues::replace(&mounted).map_err(|error| fail("mount queues of its own", &error))?;
    let given = look()?;
    match &walls.files {
        FileWalls::Granted(granted) if granted.base.is_none() => of_its_own(granted, purpose)?,
        FileWalls::Granted(granted) => whole(granted, &root, purpose, cwd)?,
        FileWalls::All => {}
    }
    given.map_or(Ok(()), streams::Given::reopen)
}

fn fail(what: impl Into<String>, error: &io::Error) -> Failure {
    Failure::new(Stage::Confine, what, error)
}

fn at(what: &str, path: &Path, error: &io::Error) -> Failure {
    fail(format!("{what} {}", path.display()), error)
}

/// Makes these namespaces, in a user namespace if that is the kind.
pub(super) fn unshare(kind: Namespaces, mut flags: UnshareFlags) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if kind == Namespaces::User {
        flags |= UnshareFlags::NEWUSER;
    }
    // SAFETY: no descriptor table is parted.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    if kind == Namespaces::User {
        // Oneself and nobody else: all that an ordinary user may say.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    Ok(())
}

/// The ordinary root with mounts where the regions ask for them. Devices are mere names but for the harmless ones, and for
/// what a region names below `/dev`.
fn whole(granted: &Granted, root: &OwnedFd, purpose: Purpose, cwd: Option<&Path>) -> Result<(), Failure> {
    let mut layout = Layout::of(granted.base, &granted.regions);
    add_devices(&mut layout);
    if purpose == Purpose::Program {
        let cwd = cwd.and_then(|cwd| cwd.canonicalize().ok());
        layout.keep_shared_memory(granted.base, &granted.regions, cwd.as_deref());
    }
    // All of it before anything changes, so that each keeps the flags that it has outside.
    let mut trees = clone_all(&layout)?;
    if granted.base == Access::Read {
        mounts::make_read_only(root).map_err(|error| fail("make everything read-only", &error))?;
    }
    mounts::close_devices(root).map_err(|error| fail("close devices", &error))?;
    let mount_points = MountPoints::Existing(root.as_fd());
    for (path, tree) in own_devices(purpose)?.into_iter().filter(|(path, _)| path.is_dir()) {
        trees.entry(path).or_insert(tree);
    }
    mount(&layout, &trees, &mount_points)?;
    if trees.contains_key(Path::new(TERMINALS_AT)) {
        own_multiplexer().map_err(|error| fail("make terminals of its own", &error))?;
    }
    Ok(())
}

/// Mounts everything, parents first, and pins what has to stay where it is.
fn mount(
    layout: &Layout,
    trees: &BTreeMap<PathBuf, OwnedFd>,
    mount_points: &MountPoints<'_>,
) -> Result<(), Failure> {
    let has_covers = layout.mounts.values().any(|mount| matches!(mount, Mount::Cover(_)));
    let mut covers = None;
    if has_covers || !layout.pinned.is_empty() {
        // Under the first mount of a directory, which hides what is there.
        let is_directory = |path: &&PathBuf| {
            let found = mounts::open(path).and_then(mounts::kind);
            found.is_ok_and(|kind| kind == FileType::Directory)
        };
        let root = PathBuf::from("/");
        let first = layout.mounts.keys().find(is_directory).unwrap_or(&root);
        let hidden =
            mount_points.get(first, FileType::Directory).map_err(|error| at("open", first, &error))?;
        covers = Some(Covers::new(hidden).map_err(|error| fail("make covers", &error))?);
    }
    let both: BTreeSet<&PathBuf> = layout.mounts.keys().chain(trees.keys()).collect();
    for path in both {
        let attached = match (layout.mounts.get(path), &covers, trees.get(path)) {
            (Some(Mount::Cover(inside)), Some(covers), _) => cover(path, inside, covers, mount_points, trees),
            (_, _, Some(tree)) => mount_points.attach(path, tree),
            _ => Ok(()),
        };
        attached.map_err(|error| at("mount over", path, &error))?;
    }
    let Some(covers) = covers else { return Ok(()) };
    let mut pins = covers.pins().map_err(|error| fail("open the place for pins", &error))?;
    for directory in &layout.pinned {
        let pinned =
            mount_points.get(directory, FileType::Directory).and_then(|found| pins::pin(&found, &pins));
        pins = pinned.map_err(|error| at("pin", directory, &error))?;
    }
    let last = covers.cover(&pins).and_then(|cover| mounts::attach(cover, &pins));
    last.map_err(|error| fail("close the place for pins", &error))
}

/// Covers what is denied, with places in the cover for what is granted in there.
fn cover(
    path: &Path,
    inside: &[PathBuf],
    covers: &Covers,
    mount_points: &MountPoints<'_>,
    trees: &BTreeMap<PathBuf, OwnedFd>,
) -> io::Result<()> {
    let denied = mount_points.get(path, FileType::Directory)?;
    if inside.is_empty() {
        return mounts::attach(covers.cover(&denied)?, denied);
    }
    let cover = mounts::memory(c"0111")?;
    for inner in inside {
        let kind = trees.get(inner).map_or(Ok(FileType::Directory), mounts::kind)?;
        mount_points::make(
            &cover,
            inner.strip_prefix(path).unwrap_or(inner),
            kind,
            Mode::from_raw_mode(0o111),
        )?;
    }
    mounts::make_read_only(&cover)?;
    mounts::attach(cover, denied)
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
fn add_devices(layout: &mut Layout) {
    for device in DEVICES.iter().map(PathBuf::from).chain(own_terminal()).filter(|device| device.exists()) {
        // That keeps its mode and owner; what is written to a device is not written to the mount.
        layout.add_device(device);
    }
}

/// Shared memory that nobody else sees, and terminals too. One that runs on a terminal keeps the name of that instead,
/// and can make no others.
fn own_devices(purpose: Purpose) -> Result<Vec<(PathBuf, OwnedFd)>, Failure> {
    if purpose == Purpose::Files {
        return Ok(Vec::new());
    }
    let memory = mounts::memory(c"1777").map_err(|error| fail("make shared memory of its own", &error))?;
    let mut own = vec![(PathBuf::from(SHARED_MEMORY), memory)];
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

/// Copies of what is mounted, but for covers.
fn clone_all(layout: &Layout) -> Result<BTreeMap<PathBuf, OwnedFd>, Failure> {
    let mut trees = BTreeMap::new();
    for (path, mount) in &layout.mounts {
        let clone = match mount {
            Mount::Same => mounts::clone,
            Mount::ReadOnly => read_only_clone,
            Mount::Cover(_) => continue,
        };
        let found = mounts::open(path).map_err(|error| at("open", path, &error))?;
        // All of `/dev` has disks, too.
        let with_devices = path.starts_with(DEVICES_AT) && path != Path::new(DEVICES_AT);
        let tree = clone(&found).and_then(|tree| {
            if !with_devices {
                mounts::close_devices(&tree)?;
            }
            Ok(tree)
        });
        trees.insert(path.clone(), tree.map_err(|error| at("take a copy of", path, &error))?);
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
    let mut layout = Layout::of(Access::Hidden, &granted.regions);
    layout.mounts.entry("/proc".into()).or_insert(Mount::ReadOnly);
    add_devices(&mut layout);
    let mut trees = clone_all(&layout)?;
    let root = mounts::memory(c"0755").map_err(|error| fail("make a root of its own", &error))?;
    let old = mounts::open(Path::new("/")).map_err(|error| fail("open the root", &error))?;
    mounts::attach(&root, old).map_err(|error| fail("mount a root of its own", &error))?;
    for (path, tree) in own_devices(purpose)? {
        trees.entry(path).or_insert(tree);
    }
    mount(&layout, &trees, &MountPoints::Made(root.as_fd()))?;
    for link in &granted.links {
        let made = || make_link(&root, mount_points::below_root(&link.at), &link.text);
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
    mount_points::make(&root, Path::new("tmp"), FileType::Directory, mount_points::MODE)
        .map_err(|error| fail("make /tmp", &error))?;
    seal(&root).map_err(|error| fail("make the root read-only", &error))?;
    mounts::make_root(&root).map_err(|error| fail("enter the root of its own", &error))
}

/// Only the new root itself: what is mounted in it has its own flags.
fn seal(root: &OwnedFd) -> io::Result<()> {
    mounts::make_itself_read_only(root)
}

/// Makes a symlink, unless its place is in something mounted, which has it already.
fn make_link(root: &OwnedFd, at: &Path, text: &Path) -> io::Result<()> {
    let parent = at.parent().unwrap_or(Path::new(""));
    match mount_points::make(root, parent, FileType::Directory, mount_points::MODE)
        .and_then(|()| Ok(rustix::fs::symlinkat(text, root, at)?))
    {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EROFS)) => Ok(()),
        Err(error) => Err(error),
    }
}
