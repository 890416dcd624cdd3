//! A socket that listens, before anybody takes connections from it: what a keeper holds while servers come and go.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::address::ListenAddress;
use super::bind_error::BindError;
use super::inherited;
use super::socket_file::SocketFile;

/// A socket that listens, and of which nobody has taken a connection yet. Dropping it stops listening and removes its socket
/// file, but not where a fork has copied it.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: OwnedFd,
    pub(super) address: Address,
}

/// Where it listens.
#[derive(Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(SocketFile),
    /// The file belongs to whoever made it.
    InheritedUnix(PathBuf),
}

impl Bound {
    /// Binds the address and listens.
    ///
    /// A Unix socket file has mode 0600 from the start; one that a dead server left is replaced.
    ///
    /// # Errors
    /// When the address is taken or can't be bound, something that is no socket has the path, and for stdio.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        match address {
            ListenAddress::Tcp(address) => {
                bind_tcp(*address).map_err(|source| BindError::Tcp { address: *address, source })
            }
            ListenAddress::Unix(path) => {
                let (socket, file) = SocketFile::bind(path)?;
                Ok(Self { socket, address: Address::Unix(file) })
            }
            ListenAddress::Stdio | ListenAddress::Inherited => Err(BindError::Stdio),
        }
    }

    /// A socket that was handed over, and that stays where it is when this is dropped.
    ///
    /// # Errors
    /// When it is no TCP or Unix socket that listens.
    pub fn inherit(socket: OwnedFd) -> Result<Self, BindError> {
        let address = || {
            rustix::io::ioctl_fionbio(&socket, true)?;
            match inherited::address_of(&socket)? {
                ListenAddress::Tcp(address) => Ok(Address::Tcp(address)),
                ListenAddress::Unix(path) => Ok(Address::InheritedUnix(path)),
                ListenAddress::Stdio | ListenAddress::Inherited => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        let address = address().map_err(BindError::Inherited)?;
        Ok(Self { socket, address })
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Bound> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = Address::Tcp(listener.local_addr()?);
    Ok(Bound { socket: listener.into(), address })
}
