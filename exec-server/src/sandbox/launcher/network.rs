//! A network of the program's own: nothing but loopback, and on it what the server listens with from outside.

#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use codex_tcp_stack::Given;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::mounts;
use crate::sandbox::task::{Failure, NetworkWalls, Stage, Word};
use crate::sandbox::wire;

/// Where programs read whom to ask for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Whom they ask in a network with a device.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Brings the new network up, and hands its listeners out. To be called while the launcher may still change it, and its
/// view is that of the machine. It closes them here, so the program has none of them.
pub(super) fn enter(network: &NetworkWalls, server: &OwnedFd) -> Result<(), Failure> {
    let NetworkWalls::Own { listen, datagrams, transparent } = network else { return Ok(()) };
    let fail = |what: &str, error: &io::Error| Failure::new(Stage::Confine, what, error);
    raise_loopback().map_err(|error| fail("bring up loopback in a network of its own", &error))?;
    if listen.is_empty() && !transparent {
        return Ok(());
    }
    let listeners: io::Result<Vec<_>> =
        listen.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port))).collect();
    let listeners = listeners.map_err(|error| fail("listen in a network of its own", &error))?;
    let datagrams = datagrams.map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port))).transpose();
    let datagrams = datagrams.map_err(|error| fail("take datagrams in a network of its own", &error))?;
    let device = transparent.then(device).transpose()?;
    let mut fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    fds.extend(datagrams.iter().map(AsFd::as_fd));
    fds.extend(device.iter().flat_map(|Given { device, datagrams, listener }| {
        [device.as_fd(), datagrams.as_fd(), listener.as_fd()]
    }));
    wire::send(server, &Word::Listening, &fds)
        .map_err(|error| fail("hand its listeners to the server", &error))
}

/// A device that everything else leads to, and whom names are asked of.
fn device() -> Result<Given, Failure> {
    let fail = |what: &str, error: &io::Error| Failure::new(Stage::Confine, what, error);
    let resolver =
        ask_our_resolver().map_err(|error| fail("put its own name server in resolv.conf", &error))?;
    codex_tcp_stack::make(resolver).map_err(|(what, error)| fail(what, &error))
}

/// Has programs ask at this address of loopback, whatever the machine's file says. Without one they ask the usual one.
fn ask_our_resolver() -> io::Result<Ipv4Addr> {
    let Ok(path) = std::fs::canonicalize(RESOLV_CONF) else { return Ok(Ipv4Addr::LOCALHOST) };
    mounts::put_text_over(&path, &format!("nameserver {RESOLVER}\noptions ndots:0\n"))?;
    Ok(RESOLVER)
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
