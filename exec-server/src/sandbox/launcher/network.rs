//! A network of the program's own: nothing but loopback, and on it what the server listens with from outside.

#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sandbox::task::{Failure, NetworkWalls, Stage, Word};
use crate::sandbox::wire;

/// Brings the new network up, and hands its listeners out. To be called while the launcher may still change it. It closes
/// them here, so the program has none of them.
pub(super) fn enter(network: &NetworkWalls, server: &OwnedFd) -> Result<(), Failure> {
    let NetworkWalls::Own { listen } = network else { return Ok(()) };
    let fail = |what: &str, error: &io::Error| Failure::new(Stage::Confine, what, error);
    raise_loopback().map_err(|error| fail("bring up loopback in a network of its own", &error))?;
    if listen.is_empty() {
        return Ok(());
    }
    let listeners: io::Result<Vec<_>> =
        listen.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port))).collect();
    let listeners = listeners.map_err(|error| fail("listen in a network of its own", &error))?;
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    wire::send(server, &Word::Listening, &fds)
        .map_err(|error| fail("hand its listeners to the server", &error))
}

/// A new network's loopback is down.
fn raise_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).unwrap_or_default();
    }
    let control = |command, request: &mut libc::ifreq| {
        // SAFETY: both calls read and write an `ifreq`, which is alive.
        let answer = unsafe { libc::ioctl(socket.as_raw_fd(), command, std::ptr::from_mut(request)) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    control(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the call before filled the flags in; the union's members are all plain numbers.
    unsafe { request.ifr_ifru.ifru_flags |= libc::c_short::try_from(libc::IFF_UP).unwrap_or(1) };
    control(libc::SIOCSIFFLAGS, &mut request)
}
