//! Attempts on other processes, and calls that are refused whatever is asked.

use std::path::Path;

use super::{APART, OFFLINE, PROFILES, Suite, c, call, check, has_own_pids, open, parent};

/// Other processes: signals, memory, descriptors, limits.
pub(super) fn processes(suite: &mut Suite) {
    const ALL: &[&str] = &PROFILES;
    for signal in [0, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH] {
        suite.add(format!("signal {signal} to the server"), ALL, false, move || {
            check(unsafe { libc::kill(parent(), signal) }).map(drop)
        });
        suite.add(format!("signal {signal} to the first process"), ALL, false, move || {
            if has_own_pids() {
                // That of its own namespace, to which this is nothing.
                return Err(0);
            }
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
    for (name, command) in [
        ("paste into a console", 0x541c),
        ("set what a key types", 0x4b49),
        ("set what a key is", 0x4b47),
        ("set a console's mode", 0x4b3a),
        ("set a console's font", 0x4b61),
        ("show another console", 0x5606),
        ("take a console over", 0x5602),
    ] {
        suite.add(name, ALL, false, move || {
            // No address: nothing happens should the call be let through.
            match check(unsafe { libc::ioctl(0, command, usize::MAX) }) {
                Err(libc::EPERM) => Err(libc::EPERM),
                _ => Ok(()),
            }
        });
    }
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
pub(super) fn calls(suite: &mut Suite, ground: &Path) {
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
        suite.add(format!("shared memory {number} of others"), &PROFILES, false, move || {
            check(unsafe { libc::shmget(number, 1, 0o600) }).map(drop)
        });
    }
}
