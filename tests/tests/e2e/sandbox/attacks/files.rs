//! Attempts on files: to change, to read, and to put other names in the way.

use std::path::{Path, PathBuf};

use libc::{c_int, c_long};

use super::{CONTROLS, FILES, Outcome, Suite, WORKSPACES, c, call, check, fd, get, open, parent, put};
use crate::sandbox::attacker::{outside_port, shared_memory};

/// Changing a file that may not be changed, by every route.
pub(super) fn writes(suite: &mut Suite, ground: &Path, target: &str, stopped_by: &'static [&'static str]) {
    let file = ground.join(target);
    let directory = file.parent().expect("a parent").to_owned();
    let work = ground.join("w");
    let mut add = |name: &str, act: Box<dyn Fn() -> Outcome>| {
        suite.add(format!("{name} {target}"), stopped_by, true, act);
    };
    for (name, flags) in [
        ("open for writing", libc::O_WRONLY),
        ("open for both", libc::O_RDWR),
        ("open for appending", libc::O_WRONLY | libc::O_APPEND),
        ("open and truncate", libc::O_WRONLY | libc::O_TRUNC),
        ("create over", libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC),
    ] {
        let file = file.clone();
        add(name, Box::new(move || put(open(&file, flags)?)));
    }
    let at = file.clone();
    add(
        "truncate by reading",
        Box::new(move || {
            open(&at, libc::O_RDONLY | libc::O_TRUNC)?;
            if at.metadata().map_or(1, |found| found.len()) == 0 { Ok(()) } else { Err(0) }
        }),
    );
    let at = file.clone();
    add("truncate", Box::new(move || check(unsafe { libc::truncate(c(&at).as_ptr(), 1) }).map(drop)));
    let at = file.clone();
    add("unlink", Box::new(move || check(unsafe { libc::unlink(c(&at).as_ptr()) }).map(drop)));
    let (at, to) = (file.clone(), work.join("stolen"));
    add(
        "rename away",
        Box::new(move || check(unsafe { libc::rename(c(&at).as_ptr(), c(&to).as_ptr()) }).map(drop)),
    );
    let (at, from) = (file.clone(), work.join("file"));
    add(
        "rename over",
        Box::new(move || check(unsafe { libc::rename(c(&from).as_ptr(), c(&at).as_ptr()) }).map(drop)),
    );
    let (at, from) = (file.clone(), work.join("file"));
    add(
        "exchange",
        Box::new(move || {
            let (at, from) = (c(&at), c(&from));
            check(unsafe { libc::renameat2(-100, from.as_ptr(), -100, at.as_ptr(), libc::RENAME_EXCHANGE) })
                .map(drop)
        }),
    );
    let (at, to) = (file.clone(), work.join(format!("hard-{}", target.replace('/', "-"))));
    add(
        "write through a hard link",
        Box::new(move || {
            check(unsafe { libc::link(c(&at).as_ptr(), c(&to).as_ptr()) })?;
            put(open(&to, libc::O_WRONLY)?)
        }),
    );
    let (at, to) = (file.clone(), work.join(format!("soft-{}", target.replace('/', "-"))));
    add(
        "write through a symlink",
        Box::new(move || {
            check(unsafe { libc::symlink(c(&at).as_ptr(), c(&to).as_ptr()) })?;
            put(open(&to, libc::O_WRONLY)?)
        }),
    );
    let (at, to) = (directory.clone(), work.join(format!("way-{}", target.replace('/', "-"))));
    add(
        "create through a symlink",
        Box::new(move || {
            check(unsafe { libc::symlink(c(&at).as_ptr(), c(&to).as_ptr()) })?;
            put(open(to.join("made"), libc::O_WRONLY | libc::O_CREAT)?)
        }),
    );
    let at = file.clone();
    add("change the mode", Box::new(move || check(unsafe { libc::chmod(c(&at).as_ptr(), 0o777) }).map(drop)));
    let at = file.clone();
    add(
        "change the mode through a descriptor",
        Box::new(move || check(unsafe { libc::fchmod(open(&at, libc::O_RDONLY)?, 0o777) }).map(drop)),
    );
    let at = file.clone();
    add(
        "change the owner",
        Box::new(move || {
            check(unsafe { libc::lchown(c(&at).as_ptr(), libc::geteuid(), libc::getegid()) }).map(drop)
        }),
    );
    let at = file.clone();
    add(
        "change the times",
        Box::new(move || check(unsafe { libc::utimes(c(&at).as_ptr(), std::ptr::null()) }).map(drop)),
    );
    let at = file.clone();
    add(
        "set an attribute",
        Box::new(move || {
            check(unsafe {
                libc::setxattr(c(&at).as_ptr(), c"user.evil".as_ptr(), c"x".as_ptr().cast(), 1, 0)
            })
            .map(drop)
        }),
    );
    let at = file.clone();
    add(
        "set a flag",
        Box::new(move || {
            let mut flags: c_long = 0;
            let file = open(&at, libc::O_RDONLY)?;
            check(unsafe { libc::ioctl(file, 0x8008_6601, &raw mut flags) })?;
            flags ^= 0x80;
            check(unsafe { libc::ioctl(file, 0x4008_6602, &raw const flags) }).map(drop)
        }),
    );
    // Commands of one file system or another; each does no harm, whoever may give it.
    for (name, read, write) in [
        ("version of ext4", 0x8008_6603, 0x4008_6604),
        ("version", 0x8008_7601, 0x4008_7602),
        ("extended flags", 0x801c_581f, 0x401c_5820),
        ("delayed blocks of ext4", 0, 0x660c),
        ("extents of ext4", 0, 0x6609),
    ] {
        let at = file.clone();
        add(
            &format!("set the {name}"),
            Box::new(move || {
                let file = open(&at, libc::O_RDONLY)?;
                let mut value = [0_u64; 8];
                if read != 0 {
                    check(unsafe { libc::ioctl(file, read, value.as_mut_ptr()) })?;
                }
                check(unsafe { libc::ioctl(file, write, value.as_ptr()) }).map(drop)
            }),
        );
    }
    for (name, flags) in [("reopen a descriptor", libc::O_RDONLY), ("reopen a path descriptor", libc::O_PATH)]
    {
        let at = file.clone();
        add(
            name,
            Box::new(move || put(open(format!("/proc/self/fd/{}", open(&at, flags)?), libc::O_WRONLY)?)),
        );
    }
    for root in [
        "/proc/self/root",
        "/proc/thread-self/root",
        "/proc/1/root",
        "PARENT/root",
        "PARENT/cwd/../../../../../../../..",
    ] {
        let at = file.clone();
        add(
            &format!("write through {root}"),
            Box::new(move || {
                let root = root.replace("PARENT", &format!("/proc/{}", parent()));
                put(open(format!("{root}{}", at.display()), libc::O_WRONLY)?)
            }),
        );
    }
    let (at, base) = (file.clone(), directory.clone());
    add(
        "write below an open directory",
        Box::new(move || {
            let base = open(&base, libc::O_RDONLY | libc::O_DIRECTORY)?;
            let name = c(at.file_name().expect("a name"));
            put(fd(unsafe { libc::openat(base, name.as_ptr(), libc::O_WRONLY) })?)
        }),
    );
    let at = file.clone();
    add(
        "write by climbing",
        Box::new(move || put(open(format!("{}{}", "../".repeat(40), at.display()), libc::O_WRONLY)?)),
    );
    let base = directory.clone();
    add(
        "link a nameless file in",
        Box::new(move || {
            let file = open(&base, libc::O_TMPFILE | libc::O_WRONLY)?;
            let name = base.join("made-tmp");
            let proc = c(format!("/proc/self/fd/{file}"));
            check(unsafe {
                libc::linkat(-100, proc.as_ptr(), -100, c(name).as_ptr(), libc::AT_SYMLINK_FOLLOW)
            })
            .map(drop)
        }),
    );
    let base = directory.clone();
    add(
        "make a directory",
        Box::new(move || check(unsafe { libc::mkdir(c(base.join("made-dir")).as_ptr(), 0o755) }).map(drop)),
    );
    let base = directory.clone();
    add(
        "make a fifo",
        Box::new(move || check(unsafe { libc::mkfifo(c(base.join("made-fifo")).as_ptr(), 0o644) }).map(drop)),
    );
    let base = directory.clone();
    add(
        "make a symlink",
        Box::new(move || {
            check(unsafe { libc::symlink(c"x".as_ptr(), c(base.join("made-link")).as_ptr()) }).map(drop)
        }),
    );
    let (base, to) = (directory.clone(), work.join(format!("moved-{}", target.replace('/', "-"))));
    add(
        "rename the directory",
        Box::new(move || check(unsafe { libc::rename(c(&base).as_ptr(), c(&to).as_ptr()) }).map(drop)),
    );
    let at = file;
    add(
        "copy into",
        Box::new(move || {
            let to = open(&at, libc::O_WRONLY | libc::O_APPEND).or_else(|_| open(&at, libc::O_RDONLY))?;
            let from = open("/proc/self/exe", libc::O_RDONLY)?;
            check(unsafe { libc::sendfile(to, from, std::ptr::null_mut(), 16) }).map(drop)
        }),
    );
}

/// Reading what may not be read, by every route.
pub(super) fn reads(suite: &mut Suite, ground: &Path, target: &str, stopped_by: &'static [&'static str]) {
    let file = ground.join(target);
    let work = ground.join("w");
    let mut add = |name: &str, act: Box<dyn Fn() -> Outcome>| {
        suite.add(format!("{name} {target}"), stopped_by, true, act);
    };
    let at = file.clone();
    add("read", Box::new(move || get(open(&at, libc::O_RDONLY)?)));
    let at = file.clone();
    add("read for both", Box::new(move || get(open(&at, libc::O_RDWR)?)));
    let at = file.clone();
    add(
        "read a path descriptor",
        Box::new(move || get(open(format!("/proc/self/fd/{}", open(&at, libc::O_PATH)?), libc::O_RDONLY)?)),
    );
    for root in [
        "/proc/self/root",
        "/proc/1/root",
        "PARENT/root",
        "PARENT/task/PARENTID/root",
        "PARENT/cwd/../../../../../../../..",
    ] {
        let at = file.clone();
        add(
            &format!("read through {root}"),
            Box::new(move || {
                let pid = parent();
                let root =
                    root.replace("PARENTID", &pid.to_string()).replace("PARENT", &format!("/proc/{pid}"));
                get(open(format!("{root}{}", at.display()), libc::O_RDONLY)?)
            }),
        );
    }
    let (at, to) = (file.clone(), work.join(format!("read-hard-{}", target.replace('/', "-"))));
    add(
        "read through a hard link",
        Box::new(move || {
            check(unsafe { libc::link(c(&at).as_ptr(), c(&to).as_ptr()) })?;
            get(open(&to, libc::O_RDONLY)?)
        }),
    );
    let (at, to) = (file.clone(), work.join(format!("read-soft-{}", target.replace('/', "-"))));
    add(
        "read through a symlink",
        Box::new(move || {
            check(unsafe { libc::symlink(c(&at).as_ptr(), c(&to).as_ptr()) })?;
            get(open(&to, libc::O_RDONLY)?)
        }),
    );
    let base = file.parent().expect("a parent").to_owned();
    let at = file.clone();
    add(
        "read below an open directory",
        Box::new(move || {
            let base = open(&base, libc::O_RDONLY | libc::O_DIRECTORY)?;
            get(fd(unsafe {
                libc::openat(base, c(at.file_name().expect("a name")).as_ptr(), libc::O_RDONLY)
            })?)
        }),
    );
    let (at, to) = (file.clone(), work.join(format!("read-moved-{}", target.replace('/', "-"))));
    add(
        "rename and read",
        Box::new(move || {
            check(unsafe { libc::rename(c(&at).as_ptr(), c(&to).as_ptr()) })?;
            get(open(&to, libc::O_RDONLY)?)
        }),
    );
    let at = file;
    add(
        "read by handle",
        Box::new(move || {
            let mut handle = [0_u8; 136];
            handle[0] = 128;
            let mut mount: c_int = 0;
            let space = handle.as_mut_ptr() as usize;
            let name = c(&at);
            call(
                libc::SYS_name_to_handle_at,
                [libc::AT_FDCWD as usize, name.as_ptr() as usize, space, &raw mut mount as usize, 0, 0],
            )?;
            let base = open("/", libc::O_RDONLY)?;
            let file =
                call(libc::SYS_open_by_handle_at, [usize::try_from(base).unwrap_or(0), space, 0, 0, 0, 0])?;
            get(c_int::try_from(file).map_err(|_| 0)?)
        }),
    );
}

/// Names that may not come to exist, and directories on the way to what is protected.
pub(super) fn names(suite: &mut Suite, ground: &Path) {
    let work = ground.join("w");
    let missing = work.join(".agents");
    let at = missing.clone();
    suite.add("make a missing protected directory", WORKSPACES, true, move || {
        check(unsafe { libc::mkdir(c(&at).as_ptr(), 0o755) }).map(drop)
    });
    let at = missing.clone();
    suite.add("make something in it", WORKSPACES, false, move || {
        put(open(at.join("made"), libc::O_WRONLY | libc::O_CREAT)?)
    });
    let at = missing.clone();
    suite.add("remove its place and make it", WORKSPACES, false, move || {
        check(unsafe { libc::rmdir(c(&at).as_ptr()) })?;
        check(unsafe { libc::mkdir(c(&at).as_ptr(), 0o755) }).map(drop)
    });
    let (at, from) = (missing.clone(), work.join("sub"));
    suite.add("rename to a missing protected name", WORKSPACES, true, move || {
        check(unsafe { libc::rename(c(&from).as_ptr(), c(&at).as_ptr()) }).map(drop)
    });
    let at = missing;
    suite.add("symlink a missing protected name", WORKSPACES, true, move || {
        check(unsafe { libc::symlink(c"sub".as_ptr(), c(&at).as_ptr()) }).map(drop)
    });
    let (at, to) = (work.join(".git"), work.join("git2"));
    suite.add("rename a protected directory", WORKSPACES, true, move || {
        check(unsafe { libc::rename(c(&at).as_ptr(), c(&to).as_ptr()) }).map(drop)
    });
    let (at, with) = (work.join(".git"), work.join("sub"));
    suite.add("exchange a protected directory", WORKSPACES, true, move || {
        let (at, with) = (c(&at), c(&with));
        check(unsafe { libc::renameat2(-100, at.as_ptr(), -100, with.as_ptr(), libc::RENAME_EXCHANGE) })
            .map(drop)
    });
    let (at, to) = (work.clone(), ground.join("w2"));
    suite.add("rename the workspace", FILES, true, move || {
        check(unsafe { libc::rename(c(&at).as_ptr(), c(&to).as_ptr()) }).map(drop)
    });
    // The profiles keep w/sub/deep/kept read-only where there is a workspace.
    let (at, to) = (work.join("sub"), work.join("sub2"));
    suite.add("rename a directory above something read-only", &["read", "deny", "path"], true, move || {
        check(unsafe { libc::rename(c(&at).as_ptr(), c(&to).as_ptr()) }).map(drop)
    });
    let at = work.join("sub/deep/kept");
    suite.add(
        "write something read-only inside something writable",
        &["read", "deny", "path"],
        true,
        move || put(open(&at, libc::O_WRONLY)?),
    );
    let at = work.join("sub/deep/kept");
    suite.add(
        "unlink something read-only inside something writable",
        &["read", "deny", "path"],
        true,
        move || check(unsafe { libc::unlink(c(&at).as_ptr()) }).map(drop),
    );
    // Not an escape: what confined programs must be able to do. Stopped by nothing, asked for by name.
    suite.add("make a terminal and shared memory", &[], false, || {
        let master = fd(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) })?;
        check(unsafe { libc::unlockpt(master) })?;
        // TIOCGPTPEER: the other end, without its name.
        check(unsafe { libc::ioctl(master, 0x5441, libc::O_RDWR) })?;
        put(open(shared_memory(outside_port()), libc::O_RDWR | libc::O_CREAT)?)
    });
    suite.add("change the mode of what stdin is", FILES, false, || {
        check(unsafe { libc::fchmod(0, 0o600) })?;
        unsafe { libc::fchmod(0, 0o666) };
        Ok(())
    });
    suite.add("change the mode of a device", FILES, false, || {
        check(unsafe { libc::chmod(c"/dev/null".as_ptr(), 0o666) }).map(drop)
    });
    for device in [libc::S_IFCHR, libc::S_IFBLK] {
        let at = work.join("device");
        suite.add(format!("make a device {device:o}"), CONTROLS, true, move || {
            check(unsafe { libc::mknod(c(&at).as_ptr(), device | 0o600, libc::makedev(1, 3)) })?;
            unsafe { libc::unlink(c(&at).as_ptr()) };
            Ok(())
        });
    }
    suite.add("read a raw disk", CONTROLS, false, || {
        let listed = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let usual = ["vda", "sda", "xvda", "nvme0n1", "mmcblk0"].map(std::ffi::OsString::from);
        for name in listed.map(|name| name.file_name()).chain(usual) {
            let Ok(disk) = open(PathBuf::from("/dev").join(name), libc::O_RDONLY) else { continue };
            let mut bytes = [0_u8; 512];
            if check(unsafe { libc::read(disk, bytes.as_mut_ptr().cast(), 512) }).is_ok() {
                return Ok(());
            }
        }
        Err(0)
    });
}

/// What the kernel is set by, which a root that may be written doesn't hold.
pub(super) fn controls(suite: &mut Suite) {
    for setting in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/proc/acpi/wakeup",
        "/proc/self/oom_score_adj",
        "/proc/1/oom_score_adj",
        "/proc/PARENT/oom_score_adj",
        "/proc/PARENT/oom_adj",
        "/proc/PARENT/coredump_filter",
        "/proc/PARENT/clear_refs",
        "/proc/PARENT/timerslack_ns",
        "/proc/PARENT/uid_map",
        "/proc/PARENT/comm",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/unified/cgroup.procs",
        "/sys/fs/cgroup/memory/cgroup.procs",
    ] {
        suite.add(format!("open {setting} for writing"), CONTROLS, false, move || {
            open(setting.replace("PARENT", &parent().to_string()), libc::O_WRONLY).map(drop)
        });
    }
    for top in ["/proc/sys", "/sys", "/proc/fs", "/proc/bus"] {
        suite.add(format!("open anything below {top} for writing"), CONTROLS, false, move || {
            let mut queue = vec![PathBuf::from(top)];
            while let Some(directory) = queue.pop() {
                for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                    match entry.file_type() {
                        Ok(kind) if kind.is_dir() => queue.push(entry.path()),
                        Ok(kind) if kind.is_file() && open(entry.path(), libc::O_WRONLY).is_ok() => {
                            return Ok(());
                        }
                        _ => {}
                    }
                }
            }
            Err(0)
        });
    }
    for control in
        ["/proc/sys/kernel/core_pattern", "/sys/power/state", "/proc/sysrq-trigger", "/sys/fs/cgroup"]
    {
        suite.add(format!("change the mode of {control}"), CONTROLS, false, move || {
            let mode = std::fs::metadata(control).map_err(|_| 0)?;
            let mode = std::os::unix::fs::MetadataExt::mode(&mode) & 0o7777;
            check(unsafe { libc::chmod(c(control).as_ptr(), mode) }).map(drop)
        });
    }
    for place in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"] {
        suite.add(format!("make a group in {place}"), CONTROLS, false, move || {
            let group = c(format!("{place}/codex-e2e-evil"));
            check(unsafe { libc::mkdir(group.as_ptr(), 0o755) })?;
            unsafe { libc::rmdir(group.as_ptr()) };
            Ok(())
        });
    }
}
