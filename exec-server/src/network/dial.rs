//! Looks each host up once, and connects only to addresses that were found there and checked.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::host::HostName;
use super::hosts_file;

use crate::blocking;

/// Lookups of the whole server at once; more wait. Each may hold a thread for as long as a name server is silent, and
/// there are other uses for those.
const LOOKUPS: usize = 32;
/// Lookups of one program at once; more wait.
const LOOKUPS_OF_ONE: usize = 4;
/// Where the machine's own names are.
const HOSTS_FILE: &str = "/etc/hosts";
/// Addresses of one host that are tried. A safeguard, far from any real use.
const MOST_ADDRESSES: usize = 16;
/// An address is given at least this long before the next one is tried. Our own pace: nothing outside depends on it.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

static SLOTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LOOKUPS)));

/// A program's own share of the lookups.
pub(super) fn lookups() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LOOKUPS_OF_ONE))
}

/// Every address that a host has, as far as they will be tried. `share` is from [`lookups`].
///
/// # Errors
/// The system's error, or one of our own for a name without addresses.
pub(super) async fn look_up(
    host: &HostName,
    port: u16,
    share: &Arc<Semaphore>,
) -> io::Result<Vec<SocketAddr>> {
    let name = match host {
        HostName::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        HostName::Name(name) => name.clone(),
    };
    let is_localhost = host.is_localhost();
    // The program's own place first: a program that has used up its own must not wait among the others.
    let held = Arc::clone(share).acquire_owned().await.map_err(io::Error::other)?;
    let slot = Arc::clone(&SLOTS).acquire_owned().await.map_err(io::Error::other)?;
    let look = move || {
        let found = resolve(&name, is_localhost, port);
        // A lookup goes on when nobody waits for it any more, so it counts until it ends.
        drop((held, slot));
        found
    };
    // A silent name server must not hold up everybody.
    let looking = blocking::spawn_beside(look).map_err(|_| ErrorKind::WouldBlock)?;
    let found: Vec<SocketAddr> = looking.await.map_err(io::Error::other)??;
    if found.is_empty() { Err(ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// A name means itself, and never another that the resolver would make of it with a search domain: that one no rule was
/// asked about.
fn resolve(name: &str, is_localhost: bool, port: u16) -> io::Result<Vec<SocketAddr>> {
    // A machine without the file, or with one that is no text, has no names of its own.
    let mut known = std::fs::read_to_string(HOSTS_FILE)
        .map(|text| hosts_file::addresses_of(&text, name))
        .unwrap_or_default();
    if is_localhost && known.is_empty() {
        known = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if known.is_empty() {
        let absolute = format!("{name}.");
        return Ok((absolute.as_str(), port).to_socket_addrs()?.take(MOST_ADDRESSES).collect());
    }
    Ok(known.into_iter().take(MOST_ADDRESSES).map(|address| SocketAddr::new(address, port)).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_this_machine_whatever_the_resolver_would_say() {
        for name in ["localhost", "x.localhost"] {
            let found = resolve(name, true, 80).unwrap();
            assert!(
                !found.is_empty() && found.iter().all(|found| found.ip().is_loopback()),
                "{name}: {found:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_program_with_all_its_lookups_waits_and_the_others_do_not() {
        let (busy, other) = (lookups(), lookups());
        let _all = Arc::clone(&busy).acquire_many_owned(LOOKUPS_OF_ONE as u32).await.unwrap();
        let host = HostName::localhost();
        let mut waiting = std::pin::pin!(look_up(&host, 80, &busy));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(look_up(&host, 80, &other).await.is_ok());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(
            look_up(&"1.2.3.4".parse::<IpAddr>().map(HostName::Address).unwrap(), 80, &busy).await.is_ok()
        );
    }
}
