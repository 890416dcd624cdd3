//! A listening socket that was handed over: connections wait in it while no server runs, and none is refused.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{SocketAddrUnix, SocketType, getsockname, sockopt};

use super::address::ListenAddress;

/// Where a socket listens that was handed over.
///
/// # Errors
/// When it is no TCP or Unix socket with an address, or is not listening.
pub fn address_of(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    if sockopt::socket_type(socket.as_fd())? != SocketType::STREAM
        || !sockopt::socket_acceptconn(socket.as_fd())?
    {
        return Err(wrong("it is not a stream socket that listens"));
    }
    let address = getsockname(socket.as_fd())?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(ListenAddress::Tcp(address));
    }
    let unix = SocketAddrUnix::try_from(address).ok();
    let path = unix.as_ref().and_then(|address| address.path_bytes()).map(|path| {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(std::ffi::OsStr::from_bytes(path))
    });
    path.map(ListenAddress::Unix)
        .ok_or_else(|| wrong("it is neither a TCP socket nor a Unix socket with a path"))
}
