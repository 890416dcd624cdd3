//! Carries a program's datagrams (RFC 1928, section 7): each host that it sends to is judged once, and only that one's answers
//! come back. Datagrams that nothing can be done with are lost, as anywhere.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use codex_exec_protocol::network::Protocol;
use tokio::net::UdpSocket as Socket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection_slots;
use super::judge::Judge;
use super::policy::Wish;
use super::socks::{self, Target};

/// The largest datagram that there is.
const LARGEST: usize = 65_535;
/// Datagrams on their way to one host that is still judged; more are lost. A safeguard, far from any real use.
const WAITING: usize = 4;
/// Hosts that one program exchanges datagrams with at once; what goes to more is lost, since each may hold memory for some
/// of the largest. A safeguard, far from any real use.
const MOST_HOSTS: usize = 64;

/// Where a program's datagrams come in.
pub(super) struct Relay {
    socket: Arc<Socket>,
    address: SocketAddr,
    /// Connections that keep it open.
    associations: watch::Sender<usize>,
}

/// Keeps a relay open until it is dropped.
pub(super) struct Association<'a>(&'a Relay);

impl Drop for Association<'_> {
    fn drop(&mut self) {
        self.0.associations.send_modify(|count| *count -= 1);
    }
}

/// Who sends, and to whom.
type Pair = (SocketAddr, Target);

/// What leads to a host. When nobody listens any more, it has ended.
type Flow = mpsc::Sender<Vec<u8>>;

impl Relay {
    /// On a socket that the program can reach. In a tokio runtime.
    ///
    /// # Errors
    /// When the event loop can't watch it.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Arc::new(Socket::from_std(socket)?), address, associations: watch::Sender::new(0) })
    }

    /// Where programs send to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries datagrams as long as what is returned is there.
    pub(super) fn associate(&self) -> Association<'_> {
        self.associations.send_modify(|count| *count += 1);
        Association(self)
    }

    /// Carries datagrams for ever, as far as there are associations. `most` bounds the hosts that are talked to at once, and
    /// `idle` how long nothing may come or go.
    pub(super) async fn serve(&self, judge: Arc<Judge>, most: usize, idle: Duration) {
        let slots = connection_slots::of_one(most.min(MOST_HOSTS));
        let mut associations = self.associations.subscribe();
        loop {
            if associations.wait_for(|count| *count > 0).await.is_err() {
                return;
            }
            let ended = async { drop(associations.wait_for(|count| *count == 0).await) };
            tokio::select! {
                () = self.carry(&judge, &slots, idle) => return,
                () = ended => {}
            }
        }
    }

    /// Until the socket breaks. What it has begun ends with it.
    async fn carry(&self, judge: &Arc<Judge>, slots: &Arc<Semaphore>, idle: Duration) {
        let (mut flows, mut running) = (HashMap::<Pair, Flow>::new(), JoinSet::new());
        let mut datagram = vec![0; LARGEST];
        loop {
            let (length, from) = match self.socket.recv_from(&mut datagram).await {
                Ok(received) => received,
                // Somebody who was answered is gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::debug!(%error, "a program's datagrams can't be received");
                    return;
                }
            };
            let Some((target, payload)) = socks::unwrap(&datagram[..length]) else { continue };
            while running.try_join_next().is_some() {}
            let pair = (from, target);
            let payload = match flows.get(&pair).map(|flow| flow.try_send(payload.to_vec())) {
                Some(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => continue,
                Some(Err(mpsc::error::TrySendError::Closed(payload))) => payload,
                None => payload.to_vec(),
            };
            flows.retain(|_, flow| !flow.is_closed());
            let Some(slot) = slot(slots) else { continue };
            let (flow, incoming) = mpsc::channel(WAITING);
            let _ = flow.try_send(payload);
            flows.insert(pair.clone(), flow);
            let talk = Talk { pair, incoming, back: Arc::clone(&self.socket), idle };
            let judge = Arc::clone(judge);
            running.spawn(async move {
                talk.run(&judge).await;
                drop(slot);
            });
        }
    }
}

/// A place of the program and one of the whole server; none if either is used up.
fn slot(slots: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
    let own = Arc::clone(slots).try_acquire_owned().ok()?;
    let of_all = connection_slots::of_all().try_acquire_owned().ok()?;
    Some([own, of_all])
}

/// An exchange with one host.
struct Talk {
    pair: Pair,
    incoming: mpsc::Receiver<Vec<u8>>,
    /// Where answers go.
    back: Arc<Socket>,
    idle: Duration,
}

impl Talk {
    async fn run(mut self, judge: &Judge) {
        let (from, Target { host, port }) = self.pair.clone();
        let wish = Wish { protocol: Protocol::Socks5Udp, host, port, method: None, has_body: false };
        let admitted = judge.admit_datagrams(&wish, Some(&from.to_string())).await;
        let socket = match admitted {
            Ok(found) => connected(&found).await,
            Err(refusal) => {
                tracing::debug!(refusal.sentence, "a program's datagram is lost");
                None
            }
        };
        match socket {
            Some((socket, host)) => self.exchange(&socket, host).await,
            // So that the next one is not asked about and reported at once.
            None => while let Ok(Some(_)) = timeout(self.idle, self.incoming.recv()).await {},
        }
    }

    async fn exchange(&mut self, socket: &Socket, host: SocketAddr) {
        let mut answer = socks::head_of(host);
        let head = answer.len();
        answer.resize(head + LARGEST, 0);
        loop {
            let moved = async {
                tokio::select! {
                    payload = self.incoming.recv() => {
                        let Some(payload) = payload else { return false };
                        // Lost, as any datagram may be: it is too large for the way, or nobody is there.
                        let _ = socket.send(&payload).await;
                    }
                    received = socket.recv(&mut answer[head..]) => {
                        let length = match received {
                            Ok(length) => length,
                            // Nobody is there yet, or any more.
                            Err(error) => return error.kind() == io::ErrorKind::ConnectionRefused,
                        };
                        let _ = self.back.send_to(&answer[..head + length], self.pair.0).await;
                    }
                }
                true
            };
            if !matches!(timeout(self.idle, moved).await, Ok(true)) {
                return;
            }
        }
    }
}

/// A socket that sends to, and hears, the first of these addresses that this machine has a way to.
async fn connected(found: &[SocketAddr]) -> Option<(Socket, SocketAddr)> {
    for address in found {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let Ok(socket) = Socket::bind((any, 0)).await else { continue };
        if socket.connect(address).await.is_ok() {
            return Some((socket, *address));
        }
    }
    None
}
