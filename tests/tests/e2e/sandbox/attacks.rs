//! The attempts: what each does, and under which profiles it must not succeed.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_int, c_long};

/// Profiles, by name: root read; workspace; workspace with denials; nothing but the workspace; network only; workspace with
/// network; workspace with a filtered network.
pub(crate) const PROFILES: [&str; 7] =
    ["read", "workspace", "deny", "path", "external", "online", "filtered"];
/// Those that restrict files.
const FILES: &[&str] = &["read", "workspace", "deny", "path", "online", "filtered"];
/// Those that have a workspace to protect things in.
const WORKSPACES: &[&str] = &["read", "workspace", "deny", "path", "online", "filtered"];
/// Those without network.
const OFFLINE: &[&str] = &["read", "workspace", "deny", "path", "external"];
/// Those that reach nobody on the machine.
const APART: &[&str] = &["read", "workspace", "deny", "path", "external", "filtered"];

/// What an attempt comes to: an error is how it was stopped.
pub(crate) type Outcome = Result<(), c_int>;

/// One attempt.
pub(crate) struct Attack {
    pub(crate) name: String,
    pub(crate) stopped_by: &'static [&'static str],
    /// Harmless without a sandbox, where it has to work: the proof that the attempt is one.
    pub(crate) works_outside: bool,
    pub(crate) act: Box<dyn Fn() -> Outcome>,
}

fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("no NUL")
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(answer: impl TryInto<i64>) -> Result<i64, c_int> {
    match answer.try_into() {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(errno()),
    }
}

fn fd(answer: c_int) -> Result<c_int, c_int> {
    if answer >= 0 { Ok(answer) } else { Err(errno()) }
}

fn open(path: impl AsRef<Path>, flags: c_int) -> Result<c_int, c_int> {
    // SAFETY: a C string, here and below; every attempt is a process of its own.
    fd(unsafe { libc::open(c(path).as_ptr(), flags, 0o644) })
}

fn put(file: c_int) -> Outcome {
    check(unsafe { libc::write(file, c"evil".as_ptr().cast(), 4) }).map(drop)
}

fn get(file: c_int) -> Outcome {
    let mut bytes = [0_u8; 6];
    match check(unsafe { libc::read(file, bytes.as_mut_ptr().cast(), 6) })? {
        6 if &bytes == b"hidden" => Ok(()),
        _ => Err(0),
    }
}

fn call(number: c_long, arguments: [usize; 6]) -> Result<i64, c_int> {
    let [a, b, c, d, e, f] = arguments;
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn parent() -> c_int {
    // The server, which started the test binary, which made this attempt.
    let me = unsafe { libc::getppid() };
    let status = std::fs::read_to_string(format!("/proc/{me}/stat")).unwrap_or_default();
    let rest = status.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').nth(1).and_then(|pid| pid.parse().ok()).unwrap_or(1)
}

/// Collects attempts.
struct Suite(Vec<Attack>);

impl Suite {
    fn add(
        &mut self,
        name: impl Into<String>,
        stopped_by: &'static [&'static str],
        works_outside: bool,
        act: impl Fn() -> Outcome + 'static,
    ) {
        self.0.push(Attack { name: name.into(), stopped_by, works_outside, act: Box::new(act) });
    }
}

/// Every attempt, on a ground.
pub(crate) fn all(ground: &Path) -> Vec<Attack> {
    let mut suite = Suite(Vec::new());
    for (target, stopped_by) in
        [("o/precious", FILES), ("w/.git/config", WORKSPACES), ("w/.codex/config.toml", WORKSPACES)]
    {
        writes(&mut suite, ground, target, stopped_by);
    }
    for (target, stopped_by) in [("d/secret", &["deny", "path"][..]), ("o/secret", &["deny", "path"])] {
        reads(&mut suite, ground, target, stopped_by);
    }
    names(&mut suite, ground);
    sockets(&mut suite, ground);
    networks(&mut suite);
    processes(&mut suite);
    calls(&mut suite, ground);
    suite.0
}

/// Changing a file that may not be changed, by every route.
fn writes(suite: &mut Suite, ground: &Path, target: &str, stopped_by: &'static [&'static str]) {
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
fn reads(suite: &mut Suite, ground: &Path, target: &str, stopped_by: &'static [&'static str]) {
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
fn names(suite: &mut Suite, ground: &Path) {
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
        put(open("/dev/shm/codex-e2e", libc::O_RDWR | libc::O_CREAT)?)
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
        suite.add(format!("make a device {device:o}"), FILES, true, move || {
            check(unsafe { libc::mknod(c(&at).as_ptr(), device | 0o600, libc::makedev(1, 3)) })?;
            unsafe { libc::unlink(c(&at).as_ptr()) };
            Ok(())
        });
    }
    suite.add("read a raw disk", FILES, false, || {
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
    for setting in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/self/oom_score_adj",
        "/sys/kernel/uevent_helper",
    ] {
        suite.add(format!("open {setting} for writing"), FILES, false, move || {
            open(setting, libc::O_WRONLY).map(drop)
        });
    }
}

/// Every family of sockets, and what goes through them.
fn sockets(suite: &mut Suite, ground: &Path) {
    let make =
        |family: c_int, kind: c_int, protocol: c_int| fd(unsafe { libc::socket(family, kind, protocol) });
    suite.add("socket", OFFLINE, true, move || make(libc::AF_INET, libc::SOCK_STREAM, 0).map(drop));
    for family in 0..47 {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            let internet = [libc::AF_INET, libc::AF_INET6].contains(&family)
                && [libc::SOCK_STREAM, libc::SOCK_DGRAM].contains(&kind);
            let stopped_by = if internet { OFFLINE } else { APART };
            suite.add(format!("socket {family} {kind}"), stopped_by, false, move || {
                make(family, kind, 0).map(drop)
            });
        }
    }
    let families = [
        libc::AF_UNIX,
        libc::AF_PACKET,
        libc::AF_VSOCK,
        libc::AF_ALG,
        libc::AF_KEY,
        libc::AF_BLUETOOTH,
        43,
        44,
    ];
    for family in families {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            suite.add(format!("local socket {family} {kind}"), &["online", "filtered"], false, move || {
                make(family, kind, 0).map(drop)
            });
        }
    }
    suite.add("netlink 0", APART, false, move || make(libc::AF_NETLINK, libc::SOCK_RAW, 0).map(drop));
    for protocol in 1..22 {
        suite.add(
            format!("netlink {protocol}"),
            &["online", "read", "external", "filtered"],
            false,
            move || make(libc::AF_NETLINK, libc::SOCK_RAW, protocol).map(drop),
        );
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        suite.add(format!("socket pair {family}"), APART, false, move || {
            let mut pair = [0; 2];
            check(unsafe { libc::socketpair(family, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) }).map(drop)
        });
    }
    suite.add("raw socket", &["online", "read", "filtered"], false, move || {
        make(libc::AF_INET, libc::SOCK_RAW, 1).map(drop)
    });
    let at = ground.join("w/listening");
    suite.add("bind a local socket", &PROFILES, true, move || {
        std::os::unix::net::UnixListener::bind(&at).map(drop).map_err(|_| errno())
    });
    suite.add("bind an abstract socket", &PROFILES, false, || {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name("codex-evil").map_err(|_| 0)?;
        std::os::unix::net::UnixListener::bind_addr(&address).map(drop).map_err(|_| errno())
    });
    suite.add("connect to the internet's own address", OFFLINE, false, || {
        std::net::UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|_| errno())
    });
    suite.add("pass a descriptor out", APART, false, move || {
        // A pair leads nowhere, and connecting one end elsewhere is not possible.
        let mut pair = [0; 2];
        check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) })?;
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = 1;
        address.sun_path[1] = 120;
        check(unsafe { libc::connect(pair[0], (&raw const address).cast(), 6) }).map(drop)
    });
}

/// Reaching the machine's network from one's own.
fn networks(suite: &mut Suite) {
    use std::net::{IpAddr, TcpStream, UdpSocket};
    let port = super::attacker::outside_port();
    let mut addresses: Vec<IpAddr> = ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::ffff:127.0.0.1"]
        .map(|address| address.parse().expect("an address"))
        .to_vec();
    addresses.extend(super::attacker::outside_address());
    for address in addresses {
        suite.add(format!("connect to {address}"), APART, true, move || {
            TcpStream::connect((address, port)).map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
        });
        suite.add(format!("send to {address}"), APART, false, move || {
            let from = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let reach = || {
                let socket = UdpSocket::bind(from)?;
                socket.connect((address, port))?;
                // The second one tells what became of the first.
                socket.send(b"evil")?;
                socket.send(b"evil")
            };
            reach().map(drop).map_err(|error: std::io::Error| error.raw_os_error().unwrap_or(0))
        });
    }
    for host in ["localhost", "127.0.0.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::]"] {
        suite.add(format!("the server at {host}, through the proxy"), &["filtered"], false, move || {
            server_through_proxy(host)
        });
    }
    for (name, kind, protocol) in [
        ("ping", libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        ("SCTP", libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ("UDP-Lite", libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        ("L2TP", libc::SOCK_DGRAM, 115),
        ("multipath", libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        ("SMC", libc::SOCK_STREAM, 256),
    ] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            suite.add(format!("{name} {family}"), APART, false, move || {
                fd(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }).map(drop)
            });
        }
    }
    suite.add("enter the server's network", APART, false, || {
        let network = open(format!("/proc/{}/ns/net", parent()), libc::O_RDONLY)?;
        check(unsafe { libc::setns(network, libc::CLONE_NEWNET) }).map(drop)
    });
    suite.add("have an administrator's network", APART, false, || {
        let socket = fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // "lo", up as it is.
        request.ifr_name[0] = 108;
        request.ifr_name[1] = 111;
        request.ifr_ifru.ifru_flags = 1;
        check(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request) }).map(drop)
    });
    suite.add("have a socket of the server's", APART, false, || {
        for number in 3..1024 {
            let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
            if link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:")) {
                return Ok(());
            }
        }
        Err(0)
    });
}

/// Only an answer that refuses holds.
fn server_through_proxy(host: &str) -> Outcome {
    use std::io::{Read, Write};
    let (Ok(proxy), Ok(port)) = (std::env::var("HTTP_PROXY"), std::env::var(super::attacker::SERVER)) else {
        return Ok(());
    };
    let ask = || {
        let mut stream = std::net::TcpStream::connect(proxy.trim_start_matches("http://"))?;
        write!(stream, "CONNECT {host}:{port} HTTP/1.1\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    match ask() {
        Ok(answer) if answer == *b"HTTP/1.1 403" => Err(403),
        Ok::<_, std::io::Error>(_) | Err(_) => Ok(()),
    }
}

/// Other processes: signals, memory, descriptors, limits.
fn processes(suite: &mut Suite) {
    const ALL: &[&str] = &PROFILES;
    for signal in [0, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH] {
        suite.add(format!("signal {signal} to the server"), ALL, false, move || {
            check(unsafe { libc::kill(parent(), signal) }).map(drop)
        });
        suite.add(format!("signal {signal} to the first process"), ALL, false, move || {
            check(unsafe { libc::kill(1, signal) }).map(drop)
        });
        suite.add(format!("queue signal {signal}"), ALL, false, move || {
            let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
            check(unsafe { libc::sigqueue(parent(), signal, value) }).map(drop)
        });
        suite.add(format!("signal {signal} through a pidfd"), ALL, false, move || {
            let process =
                call(libc::SYS_pidfd_open, [usize::try_from(parent()).unwrap_or(0), 0, 0, 0, 0, 0])?;
            let signal = usize::try_from(signal).unwrap_or(0);
            call(libc::SYS_pidfd_send_signal, [usize::try_from(process).unwrap_or(0), signal, 0, 0, 0, 0])
                .map(drop)
        });
        suite.add(format!("signal {signal} to the server's thread"), ALL, false, move || {
            let pid = usize::try_from(parent()).unwrap_or(0);
            call(libc::SYS_tgkill, [pid, pid, usize::try_from(signal).unwrap_or(0), 0, 0, 0]).map(drop)
        });
    }
    suite.add("trace the server", ALL, false, || {
        check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, parent(), 0, 0) }).map(drop)
    });
    suite.add("trace the first process", ALL, false, || {
        check(unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0) }).map(drop)
    });
    for (name, file) in [
        ("memory", "mem"),
        ("environment", "environ"),
        ("maps", "maps"),
        ("descriptors", "fd/0"),
        ("stack", "stack"),
    ] {
        suite.add(format!("read the server's {name}"), ALL, false, move || {
            let file = open(format!("/proc/{}/{file}", parent()), libc::O_RDONLY)?;
            let mut bytes = [0_u8; 16];
            match check(unsafe { libc::pread(file, bytes.as_mut_ptr().cast(), 16, 0x40_0000) }) {
                // Opened, but nothing at that place.
                Err(libc::EIO) | Ok(_) => Ok(()),
                Err(other) => Err(other),
            }
        });
    }
    suite.add("write the server's memory", ALL, false, || {
        open(format!("/proc/{}/mem", parent()), libc::O_RDWR).map(drop)
    });
    for (name, number) in [("read", libc::SYS_process_vm_readv), ("write", libc::SYS_process_vm_writev)] {
        suite.add(format!("{name} the server's memory by a call"), ALL, false, move || {
            let mut bytes = [0_u8; 8];
            let mine = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 0 };
            let mine = &raw const mine as usize;
            call(number, [usize::try_from(parent()).unwrap_or(0), mine, 1, mine, 1, 0]).map(drop)
        });
    }
    suite.add("take the server's descriptor", ALL, false, || {
        let process = call(libc::SYS_pidfd_open, [usize::try_from(parent()).unwrap_or(0), 0, 0, 0, 0, 0])?;
        call(libc::SYS_pidfd_getfd, [usize::try_from(process).unwrap_or(0), 0, 0, 0, 0, 0]).map(drop)
    });
    suite.add("set the server's limits", ALL, false, || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(unsafe { libc::prlimit(parent(), libc::RLIMIT_CORE, std::ptr::null(), &raw mut limit) })?;
        check(unsafe { libc::prlimit(parent(), libc::RLIMIT_CORE, &raw const limit, std::ptr::null_mut()) })
            .map(drop)
    });
    suite.add("set the server's priority", ALL, false, || {
        let pid = u32::try_from(parent()).unwrap_or(0);
        let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, pid) };
        check(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, now) }).map(drop)
    });
    suite.add("set the server's processors", ALL, false, || {
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::cpu_set_t>();
        check(unsafe { libc::sched_getaffinity(parent(), size, &raw mut set) })?;
        check(unsafe { libc::sched_setaffinity(parent(), size, &raw const set) }).map(drop)
    });
    suite.add("have an administrator's capabilities", ALL, false, || {
        let status = std::fs::read_to_string("/proc/self/status").map_err(|_| 0)?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).ok_or(0)?;
        let held = u64::from_str_radix(line, 16).map_err(|_| 0)?;
        // Owners, modes, users, and signals, which Landlock keeps inside.
        if held & !0b1111_1011 == 0 { Err(0) } else { Ok(()) }
    });
    suite.add("gain privileges by a program", ALL, false, || {
        let status = std::fs::read_to_string("/proc/self/status").map_err(|_| 0)?;
        if status.contains("NoNewPrivs:\t1") { Err(0) } else { Ok(()) }
    });
    suite.add("type into a terminal", ALL, false, || {
        let terminal = open("/dev/tty", libc::O_RDWR).unwrap_or(0);
        match check(unsafe { libc::ioctl(terminal, libc::TIOCSTI, c"x".as_ptr()) }) {
            Err(libc::EPERM) => Err(libc::EPERM),
            // Anything else than a refusal means that the call was looked at.
            _ => Ok(()),
        }
    });
}

/// Calls that are refused whatever is asked: that they are, and not that the arguments are bad.
fn calls(suite: &mut Suite, ground: &Path) {
    const ALL: &[&str] = &PROFILES;
    let refused = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot),
        ("move_mount", libc::SYS_move_mount),
        ("open_tree", libc::SYS_open_tree),
        ("fsopen", libc::SYS_fsopen),
        ("fsmount", libc::SYS_fsmount),
        ("fspick", libc::SYS_fspick),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("setns", libc::SYS_setns),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_enter", libc::SYS_io_uring_enter),
        ("io_uring_register", libc::SYS_io_uring_register),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("keyctl", libc::SYS_keyctl),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("delete_module", libc::SYS_delete_module),
        ("kexec_load", libc::SYS_kexec_load),
        ("swapon", libc::SYS_swapon),
        ("swapoff", libc::SYS_swapoff),
        ("acct", libc::SYS_acct),
        ("syslog", libc::SYS_syslog),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("kcmp", libc::SYS_kcmp),
        ("quotactl", libc::SYS_quotactl),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("settimeofday", libc::SYS_settimeofday),
        ("clock_settime", libc::SYS_clock_settime),
        ("sethostname", libc::SYS_sethostname),
        ("setdomainname", libc::SYS_setdomainname),
        ("process_madvise", libc::SYS_process_madvise),
        ("move_pages", libc::SYS_move_pages),
        ("clone3", libc::SYS_clone3),
    ];
    for (name, number) in refused {
        suite.add(format!("call {name}"), ALL, false, move || {
            // An address that is never valid, so that nothing happens should the call be let through.
            match call(number, [usize::MAX; 6]) {
                Err(error @ (libc::EPERM | libc::ENOSYS)) => Err(error),
                _ => Ok(()),
            }
        });
    }
    for (name, flag) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ] {
        suite.add(format!("a {name} namespace by unshare"), ALL, false, move || {
            check(unsafe { libc::unshare(flag) }).map(drop)
        });
        suite.add(format!("a {name} namespace by clone"), ALL, false, move || {
            let flags = usize::try_from(flag | libc::SIGCHLD).unwrap_or(0);
            match call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])? {
                0 => unsafe { libc::_exit(0) },
                _ => Ok(()),
            }
        });
    }
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        suite.add(format!("enter the first process's {kind} namespace"), ALL, false, move || {
            let space = open(format!("/proc/1/ns/{kind}"), libc::O_RDONLY)?;
            check(unsafe { libc::setns(space, 0) }).map(drop)
        });
    }
    #[cfg(target_arch = "x86_64")]
    {
        suite.add("a socket by its x32 number", APART, false, || {
            call(0x4000_0000 | libc::SYS_socket, [2, 1, 0, 0, 0, 0]).map(drop)
        });
        suite.add("a mount by its x32 number", ALL, false, || {
            match call(0x4000_0000 | libc::SYS_mount, [usize::MAX; 6]) {
                Err(libc::EPERM | libc::ENOSYS) => Err(0),
                _ => Ok(()),
            }
        });
        suite.add("a socket by its 32-bit number", APART, false, || {
            let answer: i64;
            // SAFETY: a call without pointers; where there are no 32-bit calls it is a fault, which ends the attempt.
            unsafe {
                core::arch::asm!(
                    "push rbx", "mov ebx, 2", "int 0x80", "pop rbx",
                    inlateout("rax") 359_i64 => answer, in("rcx") 1, in("rdx") 0, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
            }
            if i32::try_from(answer & 0xffff_ffff).map_or(true, |error| error < 0) { Err(0) } else { Ok(()) }
        });
    }
    // High halves of arguments that the kernel ignores.
    suite.add("a socket with a dirty register", OFFLINE, false, || {
        call(libc::SYS_socket, [2 | (1 << 40), 1, 0, 0, 0, 0]).map(drop)
    });
    suite.add("a namespace with a dirty register", ALL, false, || {
        let flag = usize::try_from(libc::CLONE_NEWUSER).unwrap_or(0);
        call(libc::SYS_unshare, [flag | (1 << 40), 0, 0, 0, 0, 0]).map(drop)
    });
    let at = ground.join("w");
    suite.add("mount over the workspace", ALL, false, move || {
        let at = c(&at);
        check(unsafe { libc::mount(c"tmpfs".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) })
            .map(drop)
    });
    for flags in [libc::MS_REMOUNT | libc::MS_BIND, libc::MS_REMOUNT] {
        suite.add(format!("remount the root writable {flags}"), ALL, false, move || {
            check(unsafe {
                libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
            })
            .map(drop)
        });
    }
    for number in [1, 0x1234] {
        suite.add(format!("shared memory {number} of others"), FILES, false, move || {
            check(unsafe { libc::shmget(number, 1, 0o600) }).map(drop)
        });
    }
}
