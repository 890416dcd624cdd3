//! Connects from this machine, and listens on its ports.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::blocking;

/// Addresses of one host that are tried. A safeguard, far from any real use.
const MOST_ADDRESSES: usize = 16;

/// Connects to the first address of the host that answers, within this time.
///
/// # Errors
/// The last address's error, that of the lookup, or [`ErrorKind::TimedOut`].
pub(crate) async fn connect(host: &str, port: u16, time: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + time;
    let connecting = async {
        let mut failed: io::Error = ErrorKind::NotFound.into();
        for address in look_up(host, port).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return tuned(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    timeout_at(deadline, connecting).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Sends small pieces at once, and notices some time that a peer has vanished.
pub(super) fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    Ok(stream)
}

async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let look = move || Ok((name.as_str(), port).to_socket_addrs()?.take(MOST_ADDRESSES).collect());
    // A silent name server must not hold up everybody.
    let looking = blocking::spawn_beside(look).map_err(|_| io::Error::from(ErrorKind::WouldBlock))?;
    let found: Vec<SocketAddr> = match looking.await.map_err(io::Error::other)? {
        Ok(found) => found,
        // The resolver's own errors have no kind: the name does not exist, as far as can be known here.
        Err(error) => {
            let error: io::Error = error;
            return Err(io::Error::new(ErrorKind::NotFound, error.to_string()));
        }
    };
    if found.is_empty() { Err(ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// Listens on an address of this machine, 127.0.0.1 without one. At once.
///
/// # Errors
/// The system's, and [`ErrorKind::InvalidInput`] for what is no address.
pub(crate) fn listen(host: Option<&str>, port: u16) -> io::Result<TcpListener> {
    let address = match host {
        None | Some("localhost") => Ipv4Addr::LOCALHOST.into(),
        Some(host) => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            bare.parse::<IpAddr>().map_err(|_| {
                io::Error::new(ErrorKind::InvalidInput, "expected an IP address of the machine, or localhost")
            })?
        }
    };
    let listener = std::net::TcpListener::bind(SocketAddr::new(address, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
