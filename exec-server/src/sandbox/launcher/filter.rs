//! The system call filter: no sockets where there is no network, and nothing that could undo the rest.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use codex_children::groups;

use super::numbers::{self, Fate};
use super::{families, ioctls, sockets};
use crate::sandbox::task::{Failure, Namespaces, Stage, Walls};

/// Refused with `EPERM` whatever the arguments are.
const REFUSED: [c_long; 48] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // The view of the file system.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_setns,
    // System calls under another name, which no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keys of the user, which are no files.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Ways into the kernel that programs seldom need.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Of one machine's kind only.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: [c_long; 4] =
    [libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: [c_long; 1] = [libc::SYS_kexec_file_load];

/// The same, newer than the library that names the calls: `open_tree_attr`. (Since Linux 5.1 a new call has the same number
/// on all kinds of machines.)
const REFUSED_NEWER: [c_long; 1] = [467];

/// Shared memory, semaphores and queues by number or name, which outside of a namespace are everybody's. All calls there
/// are, for a number needs no `get` before it.
const SHARED: [c_long; 17] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
];

/// Owners, modes, times and attributes of files, which Landlock does not know: without mounts that are read-only
/// nothing else keeps them as they are.
const ATTRIBUTES: [c_long; 11] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
/// The same, newer than the library: `fchmodat2`, `setxattrat`, `removexattrat`, `file_setattr`.
const NEWER_ATTRIBUTES: [c_long; 4] = [452, 463, 466, 469];
/// The same, of one machine's kind only.
#[cfg(target_arch = "x86_64")]
const OLDER_ATTRIBUTES: [c_long; 6] = [
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_ATTRIBUTES: [c_long; 0] = [];

/// Calls that may change another process, and the argument that is 0 for oneself.
const OF_OTHERS: [(c_long, u8); 5] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setattr, 0),
];
/// The same, where 0 means oneself only if the first argument says that a process is meant: 0 is also one's whole group,
/// which the server may be in, and one's user.
const OF_MANY: [(c_long, u64); 2] =
    [(libc::SYS_setpriority, PRIO_PROCESS), (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS)];
const PRIO_PROCESS: u64 = 0;
const IOPRIO_WHO_PROCESS: u64 = 1;

/// Any of these makes a namespace, in which one is an administrator.
const NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
    CLONE_NEWTIME,
];
const CLONE_NEWTIME: i32 = 0x80;

/// A call whose flags lie in memory, where a filter can't look: callers fall back on the older one.
const ABSENT: c_long = libc::SYS_clone3;
/// The numbers of the x32 calls, which share the architecture's name with the ordinary ones, begin here: all absent.
const X32: u32 = 0x4000_0000;

/// Types characters into a terminal, as if the user had.
const TIOCSTI: u64 = 0x5412;
/// Pastes into a console.
const TIOCLINUX: u64 = 0x541C;
/// Commands of a console by their second byte, `K` and `V`: what a key types, its font and colours, which one is shown. Who
/// runs on a console may set them, and they stay set.
const OF_CONSOLES: [u64; 2] = [0x4B00, 0x5600];

pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;
pub(super) type Built<T> = Result<T, seccompiler::BackendError>;

/// Installs the filter for good. The first process of its PID namespace, if it is given, answers for named Unix sockets;
/// otherwise there are none.
pub(super) fn install(walls: &Walls, first_process: Option<&OwnedFd>) -> Result<(), Failure> {
    let failed = |error: seccompiler::Error| {
        let what = format!("install the system call filter ({error})");
        match &error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => {
                Failure::new(Stage::Confine, what, error)
            }
            _ => Failure::untold(Stage::Confine, what),
        }
    };
    let handed = first_process.map_or(Ok(false), |first| sockets::hand_over(walls, first));
    let named =
        handed.map_err(|error| Failure::new(Stage::Confine, "have its Unix sockets answered for", &error))?;
    let build = || -> Built<BpfProgram> {
        let rules = refused(walls, named)?;
        let fates = fates(&rules);
        // Only what depends on arguments is left to the library.
        let with_conditions = rules.into_iter().filter(|(_, conditions)| !conditions.is_empty()).collect();
        Ok(numbers::search(&fates, &program(with_conditions, libc::EPERM)?))
    };
    let built = build().map_err(|error| failed(error.into()))?;
    let commands = walls.is_bare().then(ioctls::refuse_others);
    for program in [&built].into_iter().chain(&commands) {
        seccompiler::apply_filter(program).map_err(failed)?;
    }
    Ok(())
}

/// What becomes of each call by its number, in ranges.
fn fates(rules: &Rules) -> Vec<(u32, Fate)> {
    let refused = rules.iter().map(|(call, conditions)| {
        (*call, if conditions.is_empty() { Fate::Fails(libc::EPERM) } else { Fate::LookedAt })
    });
    let known: BTreeMap<i64, Fate> = refused.chain([(ABSENT, Fate::Fails(libc::ENOSYS))]).collect();
    let mut ranges = vec![(0, Fate::Allowed)];
    let mut begin = |number: u32, fate: Fate| match ranges.last_mut() {
        Some((last, of)) if *last == number => *of = fate,
        _ => ranges.push((number, fate)),
    };
    for (number, fate) in known {
        let Ok(number) = u32::try_from(number) else { continue };
        begin(number, fate);
        begin(number + 1, Fate::Allowed);
    }
    if cfg!(target_arch = "x86_64") {
        begin(X32, Fate::Fails(libc::ENOSYS));
    }
    ranges.dedup_by_key(|(_, fate)| *fate);
    ranges
}

/// What is refused with `EPERM`: always, or where one of its conditions holds.
fn refused(walls: &Walls, named: bool) -> Built<Rules> {
    let everywhere = REFUSED.iter().chain(&REFUSED_HERE).chain(&REFUSED_NEWER);
    let mut rules: Rules = everywhere.map(|call| (*call, Vec::new())).collect();
    if walls.namespaces == Namespaces::None {
        rules.extend(SHARED.iter().map(|call| (*call, Vec::new())));
    }
    if walls.is_bare() {
        let attributes = ATTRIBUTES.iter().chain(&NEWER_ATTRIBUTES).chain(&OLDER_ATTRIBUTES);
        rules.extend(attributes.map(|call| (*call, Vec::new())));
    }
    let flag = |argument, flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![word(argument, SeccompCmpOp::MaskedEq(flag), flag)?])
    };
    rules.insert(libc::SYS_unshare, NAMESPACES.iter().map(|name| flag(0, *name)).collect::<Built<_>>()?);
    // The lowest byte of clone's flags is a signal's number. A sibling would be a child of the server.
    let of_clone = NAMESPACES.iter().filter(|name| **name != CLONE_NEWTIME).chain(&[libc::CLONE_PARENT]);
    rules.insert(libc::SYS_clone, of_clone.map(|name| flag(0, *name)).collect::<Built<_>>()?);
    let ioctl = |command| SeccompRule::new(vec![word(1, SeccompCmpOp::Eq, command)?]);
    let of_consoles = |kind| SeccompRule::new(vec![word(1, SeccompCmpOp::MaskedEq(0xffff_ff00), kind)?]);
    let commands = [TIOCSTI, TIOCLINUX].map(ioctl).into_iter().chain(OF_CONSOLES.map(of_consoles));
    rules.insert(libc::SYS_ioctl, commands.collect::<Built<_>>()?);
    // The server runs as the same user, whose limits and priorities anybody of that user may change.
    for (call, argument) in OF_OTHERS {
        rules.insert(call, vec![SeccompRule::new(vec![word(argument, SeccompCmpOp::Ne, 0)?])?]);
    }
    for (call, process) in OF_MANY {
        let [other_kind, other] = [(0, process), (1, 0)]
            .map(|(argument, allowed)| SeccompRule::new(vec![word(argument, SeccompCmpOp::Ne, allowed)?]));
        rules.insert(call, vec![other_kind?, other?]);
    }
    // Newer rights keep signals inside as well.
    if walls.own_pids && groups::is_in_outer_group() && walls.landlock < 6 {
        spare_the_group(&mut rules)?;
    }
    families::allow(walls, named, &mut rules)?;
    Ok(rules)
}

/// A process group reaches over a PID namespace's border: signals to one's own go to its members outside as well.
fn spare_the_group(rules: &mut Rules) -> Built<()> {
    /// `PIDFD_SIGNAL_PROCESS_GROUP`.
    const TO_GROUP: u64 = 4;
    rules.insert(libc::SYS_kill, vec![SeccompRule::new(vec![word(0, SeccompCmpOp::Eq, 0)?])?]);
    let to_group = word(3, SeccompCmpOp::MaskedEq(TO_GROUP), TO_GROUP)?;
    rules.insert(libc::SYS_pidfd_send_signal, vec![SeccompRule::new(vec![to_group])?]);
    Ok(())
}

fn program(rules: Rules, errno: i32) -> Built<BpfProgram> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    // Another machine's kind of calls, such as 32-bit ones, kills the process: it has other numbers.
    SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?.try_into()
}

/// Arguments of these calls are 32 bits wide to the kernel, whatever the register's upper half holds.
pub(super) fn word(argument: u8, operator: SeccompCmpOp, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// Whether the kernel has filters at all.
pub(crate) fn is_supported() -> bool {
    rustix::thread::secure_computing_mode().is_ok()
}
