//! A network of the program's own: nothing but loopback, and on it what the server listens with from outside.

#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sandbox::handover;
use crate::sandbox::task::{Confinement, Failure, HANDOVER, Stage};

/// Brings the new network up, and hands its listeners out. To be called while the launcher may still change it.
pub(super) fn enter(confinement: &Confinement) -> Result<(), Failure> {
    if !confinement.own_network {
        return Ok(());
    }
    let fail = |what: &str, error: &io::Error| Failure::new(Stage::Confine, what, error);
    raise_loopback().map_err(|error| fail("bring up loopback in a network of its own", &error))?;
    if confinement.listen.is_empty() {
        return Ok(());
    }
    let listen = |port: &u32| {
        let port = u16::try_from(*port).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
    };
    let listeners: io::Result<Vec<_>> = confinement.listen.iter().map(listen).collect();
    let listeners = listeners.map_err(|error| fail("listen in a network of its own", &error))?;
    // SAFETY: whoever orders to listen gives the launcher this descriptor; nothing else in this process knows it. Both it
    // and the listeners are closed here, so the program has none of them.
    let server = unsafe { OwnedFd::from_raw_fd(HANDOVER) };
    handover::send(&server, &listeners).map_err(|error| fail("hand its listeners to the server", &error))
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
