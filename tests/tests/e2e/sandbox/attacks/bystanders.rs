//! Attempts on what other programs of the machine have: shared memory, queues, sockets with a name, time on processors.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::c_int;

use super::{Outcome, PROFILES, Suite, call, check, fd, parent};
use crate::sandbox::bystander::{Ids, MESSAGE};

const ALL: &[&str] = &PROFILES;

/// Shared memory, semaphores and queues, by each call that reaches one.
pub(super) fn shared(suite: &mut Suite) {
    type Call = fn(&Ids) -> Result<i64, c_int>;
    let calls: [(&str, Call); 18] = [
        ("shmat", |ids| check(unsafe { libc::shmat(ids.memory, std::ptr::null(), 0) } as i64)),
        ("shmctl IPC_STAT", |ids| {
            let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
            check(unsafe { libc::shmctl(ids.memory, libc::IPC_STAT, &raw mut status) })
        }),
        ("shmctl IPC_RMID", |ids| {
            check(unsafe { libc::shmctl(ids.memory, libc::IPC_RMID, std::ptr::null_mut()) })
        }),
        ("msgctl IPC_STAT", |ids| {
            let mut status: libc::msqid_ds = unsafe { std::mem::zeroed() };
            check(unsafe { libc::msgctl(ids.messages, libc::IPC_STAT, &raw mut status) })
        }),
        ("msgrcv", |ids| {
            let mut message = (0_i64, [0_u8; 8]);
            let place = (&raw mut message).cast();
            check(unsafe { libc::msgrcv(ids.messages, place, 8, MESSAGE, libc::IPC_NOWAIT) } as i64)
        }),
        ("msgrcv by peeking", |ids| {
            let mut message = (0_i64, [0_u8; 8]);
            let (place, flags) = ((&raw mut message).cast(), libc::IPC_NOWAIT | 0o40000);
            check(unsafe { libc::msgrcv(ids.messages, place, 8, 0, flags) } as i64)
        }),
        ("msgsnd", |ids| {
            let message = (1_i64, [1_u8; 8]);
            check(unsafe { libc::msgsnd(ids.messages, (&raw const message).cast(), 8, libc::IPC_NOWAIT) })
        }),
        ("msgctl IPC_RMID", |ids| {
            check(unsafe { libc::msgctl(ids.messages, libc::IPC_RMID, std::ptr::null_mut()) })
        }),
        ("semctl GETVAL", |ids| check(unsafe { libc::semctl(ids.semaphores, 0, libc::GETVAL) })),
        ("semctl SETVAL", |ids| check(unsafe { libc::semctl(ids.semaphores, 0, libc::SETVAL, 1) })),
        ("semop", |ids| {
            let mut up = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: 0 };
            check(unsafe { libc::semop(ids.semaphores, &raw mut up, 1) })
        }),
        ("semtimedop", |ids| {
            let up = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: 0 };
            let id = usize::try_from(ids.semaphores).unwrap_or(0);
            call(libc::SYS_semtimedop, [id, &raw const up as usize, 1, 0, 0, 0])
        }),
        ("semctl IPC_RMID", |ids| check(unsafe { libc::semctl(ids.semaphores, 0, libc::IPC_RMID) })),
        ("mq_open", |ids| check(unsafe { libc::mq_open(ids.queue.as_ptr(), libc::O_RDWR) })),
        ("mq_timedsend", |ids| {
            let queue = fd(unsafe { libc::mq_open(ids.queue.as_ptr(), libc::O_WRONLY) })?;
            check(unsafe { libc::mq_send(queue, c"x".as_ptr(), 1, 0) })
        }),
        ("mq by its file", |ids| {
            let name = ids.queue.to_str().map_err(|_| 0)?;
            let queue = super::open(format!("/dev/mqueue{name}"), libc::O_RDONLY)?;
            let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
            check(unsafe { libc::mq_getattr(queue, &raw mut attributes) })
        }),
        ("mq_notify of another's", |ids| {
            let queue = fd(unsafe { libc::mq_open(ids.queue.as_ptr(), libc::O_RDONLY) })?;
            let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
            event.sigev_notify = libc::SIGEV_NONE;
            let (queue, event) = (usize::try_from(queue).unwrap_or(0), &raw const event as usize);
            call(libc::SYS_mq_notify, [queue, event, 0, 0, 0, 0])
        }),
        ("mq_unlink", |ids| check(unsafe { libc::mq_unlink(ids.queue.as_ptr()) })),
    ];
    for (name, act) in calls {
        let ids = Ids::told();
        // Everybody may read files of an open profile; the queue is removed by others of its user only.
        let stopped_by = if name == "mq by its file" { super::FILES } else { ALL };
        let works = !["msgrcv by peeking", "mq by its file"].contains(&name);
        suite.add(format!("{name} on a bystander's"), stopped_by, works, move || act(&ids).map(drop));
    }
}

/// Sockets that a name leads to, from a pair's end.
pub(super) fn pairs(suite: &mut Suite) {
    let kinds = [
        ("a datagram pair", libc::SOCK_DGRAM),
        ("a raw pair", libc::SOCK_RAW),
        ("a datagram pair with flags", libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK),
        ("a raw pair with flags", libc::SOCK_RAW | libc::SOCK_CLOEXEC),
        ("a stream pair", libc::SOCK_STREAM),
        ("a pair of packets", libc::SOCK_SEQPACKET),
        ("a pair of packets with flags", libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK),
    ];
    for (name, kind) in kinds {
        let datagrams = name.contains("datagram") || name.contains("raw");
        for (way, act) in [
            ("sendto", send_to as fn(c_int, &Address) -> Outcome),
            ("sendmsg with a descriptor", send_descriptor),
            ("sendmmsg", send_many),
            ("connect anew", connect_anew),
            ("connect after leaving", connect_after_leaving),
            ("listen", listen),
        ] {
            for orphaned in [false, true] {
                let ids = Ids::told();
                let told = if orphaned { ", its other end closed," } else { "" };
                let works = datagrams && way != "listen";
                suite.add(format!("{name}{told} to a bystander by {way}"), ALL, works, move || {
                    let mut pair = [0; 2];
                    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
                    if orphaned {
                        check(unsafe { libc::close(pair[1]) })?;
                    }
                    let to = if datagrams { &ids.datagrams } else { &ids.streams };
                    act(pair[0], &Address::of(to))
                });
            }
        }
    }
}

/// Where a socket with a name is.
pub(super) struct Address(libc::sockaddr_un);

impl Address {
    pub(super) fn of(path: &Path) -> Self {
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = 1;
        for (to, from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        Self(address)
    }

    pub(super) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.0).cast()
    }

    pub(super) const LENGTH: libc::socklen_t = 110;
}

const SILENTLY: c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

pub(super) fn send_to(socket: c_int, to: &Address) -> Outcome {
    match check(unsafe {
        libc::sendto(socket, c"x".as_ptr().cast(), 1, SILENTLY, to.pointer(), Address::LENGTH)
    } as i64)
    {
        // To the other end: the name counted for nothing.
        Ok(_) if !is_datagram(socket) => Err(0),
        // Its queue is full: it was reached.
        Err(libc::EAGAIN) if is_datagram(socket) => Ok(()),
        other => other.map(drop),
    }
}

fn is_datagram(socket: c_int) -> bool {
    let (mut kind, mut length) = (0_i32, 4);
    let place = (&raw mut kind).cast();
    unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_TYPE, place, &raw mut length) };
    kind == libc::SOCK_DGRAM
}

fn message(to: &Address, part: &mut libc::iovec, along: &mut [u64; 3]) -> libc::msghdr {
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.pointer().cast_mut().cast();
    message.msg_namelen = Address::LENGTH;
    message.msg_iov = part;
    message.msg_iovlen = 1;
    // One descriptor: the header's length, level and kind, then its number.
    *along = [20, u64::from(libc::SCM_RIGHTS.unsigned_abs()) << 32 | 1, 0];
    message.msg_control = along.as_mut_ptr().cast();
    message.msg_controllen = 24;
    message
}

pub(super) fn send_descriptor(socket: c_int, to: &Address) -> Outcome {
    let mut part = libc::iovec { iov_base: c"x".as_ptr().cast_mut().cast(), iov_len: 1 };
    let mut along = [0; 3];
    let message = message(to, &mut part, &mut along);
    match check(unsafe { libc::sendmsg(socket, &raw const message, SILENTLY) } as i64) {
        Ok(_) if !is_datagram(socket) => Err(0),
        // Its queue is full: it was reached.
        Err(libc::EAGAIN) if is_datagram(socket) => Ok(()),
        other => other.map(drop),
    }
}

pub(super) fn send_many(socket: c_int, to: &Address) -> Outcome {
    let mut part = libc::iovec { iov_base: c"x".as_ptr().cast_mut().cast(), iov_len: 1 };
    let mut along = [0; 3];
    let mut many = libc::mmsghdr { msg_hdr: message(to, &mut part, &mut along), msg_len: 0 };
    match check(unsafe { libc::sendmmsg(socket, &raw mut many, 1, SILENTLY) }) {
        Ok(_) if !is_datagram(socket) => Err(0),
        // Its queue is full: it was reached.
        Err(libc::EAGAIN) if is_datagram(socket) => Ok(()),
        other => other.map(drop),
    }
}

pub(super) fn connect_anew(socket: c_int, to: &Address) -> Outcome {
    check(unsafe { libc::connect(socket, to.pointer(), Address::LENGTH) }).map(drop)
}

pub(super) fn connect_after_leaving(socket: c_int, to: &Address) -> Outcome {
    let nobody = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let _ = check(unsafe { libc::connect(socket, &raw const nobody, 16) });
    connect_anew(socket, to)
}

fn listen(socket: c_int, _: &Address) -> Outcome {
    check(unsafe { libc::listen(socket, 1) }).map(drop)
}

/// Some of many may be out of reach while the others are not: only a refusal of the call itself holds.
fn looked_at(answer: Result<i64, c_int>) -> Outcome {
    if answer == Err(libc::EPERM) { Err(libc::EPERM) } else { Ok(()) }
}

/// Priorities and processors of others, by each call and whom it can name.
pub(super) fn priorities(suite: &mut Suite) {
    let me = || unsafe { libc::geteuid() };
    let server = || u32::try_from(parent()).unwrap_or(0);
    type Whom = fn() -> u32;
    let [zero, user, process]: [Whom; 3] = [|| 0, me, server];
    let own_group: Whom = || u32::try_from(unsafe { libc::getpgrp() }).unwrap_or(0);
    let of_server: Whom =
        || u32::try_from(unsafe { libc::getpgid(libc::c_int::try_from(parent()).unwrap_or(0)) }).unwrap_or(0);
    for (name, which, whom) in [
        ("the server", libc::PRIO_PROCESS, process),
        ("group 0", libc::PRIO_PGRP, zero),
        ("its own group", libc::PRIO_PGRP, own_group),
        ("the server's group", libc::PRIO_PGRP, of_server),
        ("user 0", libc::PRIO_USER, zero),
        ("its user", libc::PRIO_USER, user),
    ] {
        suite.add(format!("set the priority of {name}"), ALL, false, move || {
            let now = unsafe { libc::getpriority(which, whom()) };
            looked_at(check(unsafe { libc::setpriority(which, whom(), now) }))
        });
        let which = which as usize + 1;
        suite.add(format!("set the priority of {name} for disks"), ALL, false, move || {
            // Class 2, level 4: the usual.
            looked_at(call(libc::SYS_ioprio_set, [which, whom() as usize, 2 << 13 | 4, 0, 0, 0]))
        });
    }
    suite.add("set the server's scheduler", ALL, false, || {
        let nothing = libc::sched_param { sched_priority: 0 };
        check(unsafe { libc::sched_setscheduler(parent(), libc::SCHED_OTHER, &raw const nothing) }).map(drop)
    });
    suite.add("set the server's scheduling priority", ALL, false, || {
        let nothing = libc::sched_param { sched_priority: 0 };
        check(unsafe { libc::sched_setparam(parent(), &raw const nothing) }).map(drop)
    });
    suite.add("set the server's scheduling attributes", ALL, false, || {
        // The structure's first version, all as usual.
        let usual: [u32; 12] = [48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let pid = usize::try_from(parent()).unwrap_or(0);
        call(libc::SYS_sched_setattr, [pid, usual.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
    });
}
