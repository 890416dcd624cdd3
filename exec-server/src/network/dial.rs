//! Looks hosts up once, and connects to what was found and checked and to nothing else.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::host::Host;

/// Lookups of the whole server at once; more wait. Each may hold a thread for as long as a name server is silent, and
/// there are other uses for those.
const LOOKUPS: usize = 32;
/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 16;
/// An address is given at least this long before the next one is tried.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

static SLOTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LOOKUPS)));

/// Every address that a host has, as far as they will be tried.
///
/// # Errors
/// What the system says, and for a name without addresses.
pub(super) async fn look_up(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = match host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        Host::Name(name) => name.clone(),
    };
    let slot = Arc::clone(&SLOTS).acquire_owned().await.map_err(io::Error::other)?;
    let looking = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(|found| found.take(MOST_ADDRESSES).collect());
        drop(slot);
        found
    });
    let found: Vec<SocketAddr> = looking.await.map_err(io::Error::other)??;
    if found.is_empty() { Err(ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// Whether an address is one of this machine's own: then the kernel would send from it to itself, or from loopback.
/// Nothing is sent.
pub(super) fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Without a way there, connecting will fail as well.
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        // The port means nothing; 9 is that of "discard".
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address || source.ip().is_loopback())
}

/// Connects to the first of the addresses that answers.
///
/// # Errors
/// The last one's error; [`ErrorKind::TimedOut`] at the deadline.
pub(super) async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failed: io::Error = ErrorKind::NotFound.into();
    for (address, behind) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(behind).unwrap_or(1);
        let trying = timeout(share.max(LEAST_PATIENCE), TcpStream::connect(address));
        match timeout_at(deadline, trying).await {
            Ok(Ok(Ok(stream))) => {
                stream.set_nodelay(true)?;
                // A peer that vanished is noticed some time.
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                return Ok(stream);
            }
            Ok(Ok(Err(error))) => failed = error,
            Ok(Err(_)) => failed = ErrorKind::TimedOut.into(),
            Err(_) => return Err(ErrorKind::TimedOut.into()),
        }
    }
    Err(failed)
}
