//! Attempts on what a PID namespace keeps apart, and on its first process. Where there is none, what only it can stop is not
//! tried.

use std::path::Path;

use super::{PROFILES, Suite, call, check, has_own_pids, open, tester};

const ALL: &[&str] = &PROFILES;

/// Everything about processes that are there, and those that are not.
pub(super) fn pids(suite: &mut Suite) {
    first_process(suite);
    outside(suite);
}

/// The field of a process's `stat` that comes this many behind its name.
fn field(pid: &str, behind: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(behind).map(str::to_owned)
}

fn first_process(suite: &mut Suite) {
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM, libc::SIGSEGV, libc::SIGTSTP, libc::SIGCHLD] {
        // Killed, it would take this whole suite with it, which is counted.
        suite.add(
            format!("end or stop the namespace's first process by signal {signal}"),
            ALL,
            false,
            move || {
                if !has_own_pids() {
                    return Err(0);
                }
                for _ in 0..100 {
                    unsafe { libc::kill(1, signal) };
                    match field("1", 0).as_deref() {
                        Some("R" | "S" | "D") => {}
                        _ => return Ok(()),
                    }
                }
                Err(0)
            },
        );
    }
    for link in ["root", "cwd", "exe", "ns/pid", "ns/user", "ns/mnt", "fd/0"] {
        suite.add(format!("follow the first process's {link}"), ALL, false, move || {
            std::fs::read_link(format!("/proc/1/{link}")).map(drop).map_err(|_| 0)
        });
    }
    for file in ["mem", "environ", "maps", "auxv", "task/1/mem", "syscall", "stack", "root/etc/passwd"] {
        suite.add(format!("read the first process's {file}"), ALL, false, move || {
            let file = open(format!("/proc/1/{file}"), libc::O_RDONLY)?;
            let mut bytes = [0_u8; 16];
            match check(unsafe { libc::pread(file, bytes.as_mut_ptr().cast(), 16, 0) }) {
                // Nothing is at the place of memory.
                Err(libc::EIO) | Ok(_) => Ok(()),
                Err(other) => Err(other),
            }
        });
    }
    suite.add("list what the first process has mapped", ALL, false, || {
        let mut files = std::fs::read_dir("/proc/1/map_files").map_err(|_| 0)?;
        files.next().ok_or(0)?.map(drop).map_err(|_| 0)
    });
    suite.add("take the first process's descriptor", ALL, false, || {
        let process = call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0])?;
        call(libc::SYS_pidfd_getfd, [usize::try_from(process).unwrap_or(0), 0, 0, 0, 0, 0]).map(drop)
    });
    suite.add("enter a namespace through a pidfd of the first process", ALL, false, || {
        let process = call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0])?;
        let kinds = usize::try_from(libc::CLONE_NEWPID | libc::CLONE_NEWNS).unwrap_or(0);
        call(libc::SYS_setns, [usize::try_from(process).unwrap_or(0), kinds, 0, 0, 0, 0]).map(drop)
    });
    suite.add("set the first process's limits", ALL, false, || {
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        check(unsafe { libc::prlimit(1, libc::RLIMIT_CPU, &raw const limit, std::ptr::null_mut()) }).map(drop)
    });
}

fn outside(suite: &mut Suite) {
    suite.add("see a process of outside", ALL, false, || {
        if !has_own_pids() {
            return Err(0);
        }
        let names = std::fs::read_dir("/proc").map_err(|_| 0)?;
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut pids = names.filter(|name| name.parse::<u32>().is_ok());
        // Whose parent is none of them: the first process, and the program.
        let is_of_outside = |pid: &String| pid != "1" && pid != "2" && field(pid, 1).as_deref() == Some("0");
        if Path::new(&format!("/proc/{}", tester())).exists() || pids.any(|pid| is_of_outside(&pid)) {
            Ok(())
        } else {
            Err(0)
        }
    });
    for file in ["fd", "fdinfo", "task", "root", "net/tcp", "net/unix", "mountinfo", "cmdline"] {
        suite.add(format!("look at the {file} of a process of outside"), ALL, false, move || {
            if !has_own_pids() {
                return Err(0);
            }
            open(format!("/proc/{}/{file}", tester()), libc::O_RDONLY).map(drop)
        });
    }
    suite.add("make a child of the server's", ALL, false, || {
        let flags = usize::try_from(libc::CLONE_PARENT | libc::SIGCHLD).unwrap_or(0);
        match call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])? {
            0 => unsafe { libc::_exit(0) },
            _ => Ok(()),
        }
    });
    suite.add("signal all that there is", ALL, false, || {
        // Everybody but the first process and the caller gets it; that the test goes on shows that nobody outside has.
        check(unsafe { libc::kill(tester(), 0) }).map(drop)
    });
}
