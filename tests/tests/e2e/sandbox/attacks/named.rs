//! Attempts on a bystander's socket by a socket of the program's own, which may have names in the workspace (`sockets/` of the
//! launcher): each state that such a socket can be in, each way that a name can lead out, and each thing that could change
//! between a look and its use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::c_int;

use super::bystanders::{self, Address};
use super::{FILES, Outcome, PROFILES, Suite, c, check, fd};
use crate::sandbox::bystander::Ids;

const ALL: &[&str] = &PROFILES;
/// How often a race is tried, at most: as often as it can be within a part of an attempt's time.
const TRIES: usize = 200;
const TIME: Duration = Duration::from_secs(5);

fn tries() -> impl Iterator<Item = usize> {
    let since = Instant::now();
    (0..TRIES).take_while(move |_| since.elapsed() < TIME)
}

/// Everything about sockets with a name.
pub(super) fn sockets(suite: &mut Suite, ground: &Path) {
    states(suite, ground);
    names(suite, ground);
    races(suite, ground);
}

fn make(kind: c_int) -> Result<c_int, c_int> {
    fd(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })
}

/// Where a name of one's own can be; with a number of this attempt's own.
fn own_name(ground: &Path) -> PathBuf {
    ground.join(format!("w/own-{}", std::process::id()))
}

fn bind(socket: c_int, path: &Path) -> Outcome {
    let address = Address::of(path);
    check(unsafe { libc::bind(socket, address.pointer(), Address::LENGTH) }).map(drop)
}

fn connect(socket: c_int, path: &Path) -> Outcome {
    bystanders::connect_anew(socket, &Address::of(path))
}

/// Where a socket is joined to.
fn peer(socket: c_int) -> PathBuf {
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut length = Address::LENGTH;
    unsafe { libc::getpeername(socket, (&raw mut address).cast(), &raw mut length) };
    let bytes: Vec<u8> =
        address.sun_path.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// A socket's states, and what is done then.
fn states(suite: &mut Suite, ground: &Path) {
    type Prepare = fn(c_int, &Path) -> Result<c_int, c_int>;
    let states: [(&str, Prepare); 9] = [
        ("a new", |socket, _| Ok(socket)),
        ("a bound", |socket, own| bind(socket, own).map(|()| socket)),
        ("a listening", |socket, own| {
            bind(socket, own)?;
            check(unsafe { libc::listen(socket, 1) })?;
            Ok(socket)
        }),
        ("a refused", |socket, own| {
            let _ = connect(socket, &own.join("nothing"));
            Ok(socket)
        }),
        ("a copied", |socket, _| {
            let copy = fd(unsafe { libc::dup(socket) })?;
            unsafe { libc::close(socket) };
            Ok(copy)
        }),
        ("a copy of a bound", |socket, own| {
            let copy = fd(unsafe { libc::dup(socket) })?;
            bind(socket, own).map(|()| copy)
        }),
        ("a credulous", |socket, _| {
            let yes = 1_i32;
            check(unsafe {
                libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const yes).cast(), 4)
            })
            .map(|_| socket)
        }),
        ("a shut", |socket, _| {
            unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
            Ok(socket)
        }),
        ("an accepted", |socket, own| {
            bind(socket, own)?;
            check(unsafe { libc::listen(socket, 1) })?;
            let other = make(libc::SOCK_STREAM)?;
            connect(other, own)?;
            fd(unsafe { libc::accept(socket, std::ptr::null_mut(), std::ptr::null_mut()) })
        }),
    ];
    type Act = fn(c_int, &Address) -> Outcome;
    let acts: [(&str, Act); 6] = [
        ("connect", bystanders::connect_anew),
        ("connect after leaving", bystanders::connect_after_leaving),
        ("connect with a short address", |socket, to| {
            for length in [16, 28, 2, 0] {
                let _ = check(unsafe { libc::connect(socket, to.pointer(), length) });
            }
            // To whom it may not matter how long the name was.
            if peer(socket).as_os_str().is_empty() { Err(0) } else { Ok(()) }
        }),
        ("sendto", bystanders::send_to),
        ("sendmsg with a descriptor", bystanders::send_descriptor),
        ("sendmmsg", bystanders::send_many),
    ];
    for (state, prepare) in states {
        for (act_name, act) in acts {
            for (kind_name, kind) in
                [("stream", libc::SOCK_STREAM), ("socket of packets", libc::SOCK_SEQPACKET)]
            {
                let (ids, own) = (Ids::told(), ground.to_owned());
                let works = kind == libc::SOCK_STREAM && state == "a new" && act_name == "connect";
                let name = format!("{state} {kind_name} to a bystander by {act_name}");
                suite.add(name, ALL, works, move || {
                    let socket = prepare(make(kind)?, &own_name(&own))?;
                    act(socket, &Address::of(&ids.streams))?;
                    // Of two that the program has joined itself.
                    if state == "an accepted" && act_name.starts_with("send") { Err(0) } else { Ok(()) }
                });
            }
        }
    }
}

/// Names that lead to a bystander's socket, without being its own.
fn names(suite: &mut Suite, ground: &Path) {
    type Name = fn(&Path, &Path) -> Result<PathBuf, c_int>;
    let names: [(&str, Name); 6] = [
        ("a symlink in the workspace", |to, own| {
            check(unsafe { libc::symlink(c(to).as_ptr(), c(own).as_ptr()) }).map(|_| own.to_owned())
        }),
        ("a hard link in the workspace", |to, own| {
            check(unsafe { libc::link(c(to).as_ptr(), c(own).as_ptr()) }).map(|_| own.to_owned())
        }),
        ("a symlinked directory", |to, own| {
            let around = to.parent().ok_or(0)?;
            check(unsafe { libc::symlink(c(around).as_ptr(), c(own).as_ptr()) })?;
            Ok(own.join(to.file_name().ok_or(0)?))
        }),
        ("its root's link", |to, _| {
            Ok(Path::new("/proc/self/root").join(to.strip_prefix("/").map_err(|_| 0)?))
        }),
        ("a descriptor of its directory", |to, _| {
            let around = super::open(to.parent().ok_or(0)?, libc::O_PATH | libc::O_DIRECTORY)?;
            Ok(PathBuf::from(format!("/proc/self/fd/{around}/")).join(to.file_name().ok_or(0)?))
        }),
        ("a relative path", |to, _| {
            Ok(Path::new(&"../".repeat(8)).join(to.strip_prefix("/").map_err(|_| 0)?))
        }),
    ];
    for (name, lead) in names {
        let (ids, at) = (Ids::told(), ground.to_owned());
        suite.add(format!("reach a bystander's socket by {name}"), ALL, false, move || {
            connect(make(libc::SOCK_STREAM)?, &lead(&ids.streams, &own_name(&at))?)
        });
        let at = ground.to_owned();
        suite.add(format!("put a socket outside by {name}"), FILES, false, move || {
            let outside = at.join(format!("o/new-{}", std::process::id()));
            bind(make(libc::SOCK_STREAM)?, &lead(&outside, &own_name(&at))?)?;
            if outside.exists() { Ok(()) } else { Err(0) }
        });
    }
    let at = ground.to_owned();
    suite.add("put a socket over a protected file", super::WORKSPACES, false, move || {
        bind(make(libc::SOCK_STREAM)?, &at.join("w/.git/config"))
    });
    let (ids, at) = (Ids::told(), ground.to_owned());
    suite.add("reach a bystander's socket that is moved to a name of one's own", ALL, false, move || {
        let own = own_name(&at);
        bind(make(libc::SOCK_STREAM)?, &own)?;
        check(unsafe { libc::rename(c(&ids.streams).as_ptr(), c(&own).as_ptr()) })?;
        connect(make(libc::SOCK_STREAM)?, &own)
    });
}

/// Does something over and over beside an act, until that is done.
fn beside<T>(swap: impl Fn(bool) + Send + 'static, act: impl FnOnce() -> T) -> T {
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let swapper = std::thread::spawn(move || {
        let mut first = false;
        while !told.load(Ordering::Relaxed) {
            first = !first;
            swap(first);
        }
    });
    let result = act();
    done.store(true, Ordering::Relaxed);
    let _ = swapper.join();
    result
}

/// What changes between a look and its use.
fn races(suite: &mut Suite, ground: &Path) {
    // An address that one thread writes while another's call reads it.
    static SHARED: [std::sync::atomic::AtomicU8; 110] = [const { std::sync::atomic::AtomicU8::new(0) }; 110];
    fn write(from: &[u8]) {
        for (to, byte) in SHARED.iter().zip(from) {
            to.store(*byte, Ordering::Relaxed);
        }
    }
    fn bytes(path: &Path, family: u16) -> [u8; 110] {
        let mut bytes = [0; 110];
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        let path = path.as_os_str().as_encoded_bytes();
        bytes[2..2 + path.len()].copy_from_slice(path);
        bytes
    }
    let connect_shared = |socket: c_int| unsafe { libc::connect(socket, SHARED.as_ptr().cast(), 110) };
    let (ids, at) = (Ids::told(), ground.to_owned());
    suite.add("swap the address of a socket while it connects", ALL, false, move || {
        let (own, to) = (own_name(&at), ids.streams.clone());
        let listener = make(libc::SOCK_STREAM)?;
        bind(listener, &own)?;
        check(unsafe { libc::listen(listener, 4096) })?;
        let [mine, theirs] = [bytes(&own, 1), bytes(&to, 1)];
        beside(
            move |first| write(if first { &mine } else { &theirs }),
            || {
                for _ in tries() {
                    let socket = make(libc::SOCK_STREAM)?;
                    if connect_shared(socket) == 0 && peer(socket) == to {
                        return Ok(());
                    }
                    unsafe { libc::close(socket) };
                }
                Err(0)
            },
        )
    });
    let ids = Ids::told();
    suite.add("swap the family of an address and the socket while it connects", ALL, false, move || {
        let to = ids.streams.clone();
        let [mine, theirs] = [bytes(Path::new(""), 2), bytes(&to, 1)];
        let internet = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        let unix = make(libc::SOCK_STREAM)?;
        let socket = fd(unsafe { libc::dup(unix) })?;
        let swap = move |first: bool| {
            write(if first { &mine } else { &theirs });
            unsafe { libc::dup2(if first && internet >= 0 { internet } else { unix }, socket) };
        };
        beside(swap, || {
            for _ in tries() {
                connect_shared(socket);
                if peer(socket) == to || peer(unix) == to {
                    return Ok(());
                }
            }
            Err(0)
        })
    });
    let (ids, at) = (Ids::told(), ground.to_owned());
    suite.add("swap what a name leads to while it connects", ALL, false, move || {
        let (own, to, name) =
            (own_name(&at), ids.streams.clone(), at.join(format!("w/swap-{}", std::process::id())));
        let listener = make(libc::SOCK_STREAM)?;
        bind(listener, &own)?;
        check(unsafe { libc::listen(listener, 4096) })?;
        let target = to.clone();
        let led = name.clone();
        let swap = move |first: bool| {
            let next = led.with_extension("next");
            let lead = if first { &own } else { &target };
            unsafe {
                libc::symlink(c(lead).as_ptr(), c(&next).as_ptr());
                libc::rename(c(&next).as_ptr(), c(&led).as_ptr());
            }
        };
        beside(swap, || {
            for _ in tries() {
                let socket = make(libc::SOCK_STREAM)?;
                if connect(socket, &name).is_ok() && peer(socket) == to {
                    return Ok(());
                }
                unsafe { libc::close(socket) };
            }
            Err(0)
        })
    });
    let (ids, at) = (Ids::told(), ground.to_owned());
    suite.add("swap a bystander's socket in for the file of one's own", ALL, false, move || {
        let (own, to) = (own_name(&at), ids.streams.clone());
        let (swapped, target) = (own.clone(), to.clone());
        let swap = move |_| {
            let next = swapped.with_extension("next");
            unsafe {
                libc::link(c(&target).as_ptr(), c(&next).as_ptr());
                libc::rename(c(&next).as_ptr(), c(&swapped).as_ptr());
            }
        };
        beside(swap, || {
            for _ in tries() {
                unsafe { libc::unlink(c(&own).as_ptr()) };
                let listener = make(libc::SOCK_STREAM)?;
                let _ = bind(listener, &own);
                let socket = make(libc::SOCK_STREAM)?;
                // The bystander's own name is what its peers are told.
                if connect(socket, &own).is_ok() && peer(socket) == to {
                    return Ok(());
                }
                unsafe { libc::close(socket) };
                unsafe { libc::close(listener) };
            }
            Err(0)
        })
    });
}
