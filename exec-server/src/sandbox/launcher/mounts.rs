//! The few mount calls that a view is built from.
//!
//! Paths are opened without following any symlink, and mounts are made of and on what was opened: a program that
//! swaps a name meanwhile makes the launch fail, not the view wider.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

/// Opens a name without following symlinks, not even as the last name.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    open_at(CWD, path, ResolveFlags::empty())
}

/// The same below a directory, and not out of it.
pub(super) fn open_below(directory: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    open_at(directory, path, ResolveFlags::BENEATH)
}

fn open_at(directory: impl AsFd, path: &Path, more: ResolveFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    Ok(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?)
}

/// What kind of thing is open.
pub(super) fn kind(fd: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// A copy of a tree of mounts, not attached anywhere; with the flags that they have now.
pub(super) fn clone(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(fd, c"", flags)?)
}

/// A copy of one mount, without those in it.
pub(super) fn clone_alone(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(fd, c"", flags)?)
}

/// Attaches a tree on top of what is open.
pub(super) fn attach(tree: impl AsFd, on: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", on, c"", flags)?)
}

/// Makes a tree of mounts read-only, all of it.
pub(super) fn make_read_only(tree: impl AsFd) -> io::Result<()> {
    set(tree.as_fd(), libc::AT_RECURSIVE, MountAttrFlags::MOUNT_ATTR_RDONLY, 0)
}

/// Makes all devices in a tree of mounts mere names.
pub(super) fn close_devices(tree: impl AsFd) -> io::Result<()> {
    set(tree.as_fd(), libc::AT_RECURSIVE, MountAttrFlags::MOUNT_ATTR_NODEV, 0)
}

/// Makes one mount read-only, and nothing that is mounted in it.
pub(super) fn make_itself_read_only(mount: impl AsFd) -> io::Result<()> {
    set(mount.as_fd(), 0, MountAttrFlags::MOUNT_ATTR_RDONLY, 0)
}

/// Lets no mount or unmount of others come in, and none of ours go out.
pub(super) fn make_private(tree: impl AsFd) -> io::Result<()> {
    set(tree.as_fd(), libc::AT_RECURSIVE, MountAttrFlags::empty(), libc::MS_PRIVATE)
}

fn set(tree: BorrowedFd<'_>, reach: libc::c_int, flags: MountAttrFlags, propagation: u64) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: flags.bits().into(), attr_clr: 0, propagation, userns_fd: 0 };
    let at = libc::AT_EMPTY_PATH | reach;
    // SAFETY: the descriptor is open, the path is a C string, and the structure is of the size that is told.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A new, empty file system in memory, not attached anywhere.
pub(super) fn memory(mode: &CStr) -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    new(c"tmpfs", &[(c"mode", mode)], flags)
}

/// Puts a file with this text, which stays as it is, over another.
pub(super) fn put_text_over(path: &Path, text: &str) -> io::Result<()> {
    let tree = memory(c"0755")?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&tree, c"file", flags, Mode::from_raw_mode(0o444))?);
    // Whatever the server's mask would make of it.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    make_read_only(&tree)?;
    // Above the root where no path leads: what is attached nowhere can't be copied.
    attach(&tree, open(Path::new("/"))?)?;
    attach(clone(open_below(&tree, Path::new("file"))?)?, open(path)?)
}

/// The queues of this IPC namespace, not attached anywhere.
pub(super) fn queues() -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new(c"mqueue", &[], flags)
}

/// Terminals of its own, apart from everybody else's, not attached anywhere.
pub(super) fn terminals() -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new(c"devpts", &[(c"ptmxmode", c"0666"), (c"mode", c"0600")], flags)
}

/// The processes of this process's PID namespace as a file system, not attached anywhere.
pub(super) fn processes() -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new(c"proc", &[], flags)
}

fn new(kind: &CStr, options: &[(&CStr, &CStr)], flags: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        rustix::mount::fsconfig_set_string(&context, *name, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Makes an attached tree the root of everything, and lets go of the old one.
pub(super) fn make_root(tree: impl AsFd) -> io::Result<()> {
    let old =
        rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(tree)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(old)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}

/// Something empty to cover what is denied: a directory or a file that only modes keep an ordinary user from.
pub(super) struct Covers {
    tree: OwnedFd,
}

impl Covers {
    /// Makes them, attached at a place where a mount is still to come.
    pub(super) fn new(hidden: impl AsFd) -> io::Result<Self> {
        let tree = memory(c"0755")?;
        rustix::fs::mkdirat(&tree, c"directory", Mode::empty())?;
        rustix::fs::mkdirat(&tree, c"pins", Mode::empty())?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&tree, c"file", flags, Mode::empty())?);
        make_read_only(&tree)?;
        attach(&tree, hidden)?;
        Ok(Self { tree })
    }

    /// A place that no path leads to, either.
    pub(super) fn pins(&self) -> io::Result<OwnedFd> {
        open_below(&self.tree, Path::new("pins"))
    }

    /// A new cover for what is open.
    pub(super) fn cover(&self, denied: impl AsFd) -> io::Result<OwnedFd> {
        let name = if kind(denied)? == FileType::Directory { "directory" } else { "file" };
        clone(open_below(&self.tree, Path::new(name))?)
    }
}
