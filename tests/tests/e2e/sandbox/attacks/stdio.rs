//! Attempts on the files behind stdin, stdout and stderr, which somebody outside opened. Asked for by name: what they are
//! is up to who starts the program (`stdio.rs`).

use std::path::Path;

use libc::c_int;

use super::{Outcome, Suite, c, check, fd, get, has_own_pids, open, put, tester};

/// For each of the three, each way to change what is behind it.
pub(super) fn streams(suite: &mut Suite, ground: &Path) {
    type Way = fn(c_int) -> Outcome;
    let ways: [(&str, Way); 14] = [
        ("change the mode", |fd| check(unsafe { libc::fchmod(fd, 0o777) }).map(drop)),
        ("change the mode by its link", |fd| {
            check(unsafe { libc::chmod(c(format!("/proc/self/fd/{fd}")).as_ptr(), 0o777) }).map(drop)
        }),
        ("change the mode of a copy", |fd| check(unsafe { libc::fchmod(libc::dup(fd), 0o777) }).map(drop)),
        ("change the owner", |fd| {
            check(unsafe { libc::fchown(fd, libc::geteuid(), libc::getegid()) }).map(drop)
        }),
        ("change the owner by no name", |fd| {
            let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
            check(unsafe { libc::fchownat(fd, c"".as_ptr(), user, group, libc::AT_EMPTY_PATH) }).map(drop)
        }),
        ("change the times", |fd| check(unsafe { libc::futimens(fd, std::ptr::null()) }).map(drop)),
        ("set an attribute", |fd| {
            check(unsafe { libc::fsetxattr(fd, c"user.evil".as_ptr(), c"x".as_ptr().cast(), 1, 0) }).map(drop)
        }),
        ("set a flag", |fd| {
            let mut flags: libc::c_long = 0;
            check(unsafe { libc::ioctl(fd, 0x8008_6601, &raw mut flags) })?;
            flags ^= 0x80;
            check(unsafe { libc::ioctl(fd, 0x4008_6602, &raw const flags) }).map(drop)
        }),
        ("truncate", |fd| check(unsafe { libc::ftruncate(fd, 0) }).map(drop)),
        ("punch a hole into", |fd| check(unsafe { libc::fallocate(fd, 3, 0, 4) }).map(drop)),
        ("write over the beginning of", |fd| {
            check(unsafe { libc::pwrite(fd, c"evil".as_ptr().cast(), 4, 0) } as i64).map(drop)
        }),
        ("reopen to write", |fd| put(open(format!("/proc/self/fd/{fd}"), libc::O_WRONLY)?)),
        ("reopen to truncate", |fd| {
            open(format!("/proc/self/fd/{fd}"), libc::O_WRONLY | libc::O_TRUNC).map(drop)
        }),
        ("allocate for", |fd| check(unsafe { libc::fallocate(fd, 0, 0, 1 << 16) }).map(drop)),
    ];
    for stream in 0..3 {
        for (name, act) in ways {
            suite.add(format!("{name} stream {stream}"), &[], false, move || act(stream));
        }
        suite.add(format!("change a mode below stream {stream}"), &[], false, move || {
            check(unsafe { libc::fchmodat(stream, c"o/precious".as_ptr(), 0o777, 0) }).map(drop)
        });
        suite.add(format!("write below stream {stream}"), &[], false, move || {
            put(fd(unsafe { libc::openat(stream, c"o/precious".as_ptr(), libc::O_WRONLY) })?)
        });
        suite.add(format!("read what is denied below stream {stream}"), &[], false, move || {
            get(fd(unsafe { libc::openat(stream, c"d/secret".as_ptr(), libc::O_RDONLY) })?)
        });
        suite.add(format!("enter stream {stream} and read what is denied"), &[], false, move || {
            check(unsafe { libc::fchdir(stream) })?;
            get(open("d/secret", libc::O_RDONLY)?)
        });
        suite.add(format!("see a process of outside around stream {stream}"), &[], false, move || {
            if !has_own_pids() {
                return Err(0);
            }
            let way = format!("{}proc/{}/cmdline", "../".repeat(20), tester());
            fd(unsafe { libc::openat(stream, c(way).as_ptr(), libc::O_RDONLY) }).map(drop)
        });
        let at = ground.join("o/door");
        suite.add(format!("reach a bystander's socket by stream {stream}"), &[], false, move || {
            let address = super::bystanders::Address::of(&at);
            super::bystanders::send_to(stream, &address)
                .or_else(|_| super::bystanders::connect_after_leaving(stream, &address))
        });
    }
}
