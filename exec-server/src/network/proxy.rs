//! One program's proxy: accepts its connections, serves them by their first byte, and ends with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Listener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use codex_exec_protocol::ProcessId;
use codex_exec_protocol::network::Protocol;
use futures_util::future::{OptionFuture, join_all};
use rustix::net::SocketFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::datagrams::Relay;
use super::judge::Judge;
use super::overseer::SessionNetwork;
use super::policy::{Rules, Wish};
use super::transparent::{self, Stack};
use super::upstream::Upstream;
use super::{connection_slots, dial, http, socks, tunnel};
use crate::Limits;
use crate::blocking;
use crate::limits::NetworkLimits;
use crate::own_port::{self, OwnPort};
use codex_children::descriptor::register;
use codex_children::orphans::{self, Origin, ProcessStamp};

/// How long a listener pauses after the system had no descriptor for a connection.
const REST: Duration = Duration::from_millis(100);
/// How often it is checked whether descendants that outlived their program still run.
const LOOK: Duration = Duration::from_secs(2);

/// What a program's connections lead to.
pub(crate) enum Gateway {
    /// The filtering proxy; has a port where it listens on the machine's own loopback.
    Proxy(Arc<ProxyPlan>, Option<OwnPort>),
    /// This port of the machine's own loopback, and nothing else.
    Bridge(u16),
}

/// What a proxy is to do.
pub(crate) struct ProxyPlan {
    pub(crate) process_id: ProcessId,
    pub(crate) rules: Rules,
    pub(crate) socks: bool,
    /// Whether datagrams are carried as well.
    pub(crate) datagrams: bool,
    /// How long the client may take for a decision; none if the client is not asked.
    pub(crate) patience: Option<Duration>,
    /// What stands between this machine and the world.
    pub(crate) upstream: Upstream,
    /// Whether the request allows that to be used.
    pub(crate) allows_upstream: bool,
}

/// A program's hold on its network; what serves it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct NetworkHandle(oneshot::Sender<Vec<ProcessStamp>>);

impl NetworkHandle {
    /// The program has ended and left these behind: the network stays until they or the session have ended.
    pub(crate) fn leave_to(self, descendants: Vec<ProcessStamp>) {
        // Nobody there means that it is over anyway.
        let _ = self.0.send(descendants);
    }
}

/// Opens these gateways on listeners that the program can reach, whose descendants `origin` tells. What a stack asks for, and
/// what comes in `datagrams`, goes by the rules of the proxy among them. In a tokio runtime.
///
/// # Errors
/// When the event loop can't watch a listener.
pub(crate) fn open(
    gateways: Vec<(Listener, Gateway)>,
    datagrams: Option<UdpSocket>,
    stack: Option<Stack>,
    network: &SessionNetwork,
    limits: &Arc<Limits>,
    origin: Origin,
) -> io::Result<NetworkHandle> {
    let slots = connection_slots::of_one(limits.network.network_connections);
    let (mut open, mut own_ports, mut judge) = (Vec::new(), Vec::new(), None);
    let relay = datagrams.map(Relay::new).transpose()?.map(Arc::new);
    for (listener, gateway) in gateways {
        listener.set_nonblocking(true)?;
        let listener = register(listener.into(), Interest::READABLE)?;
        let gateway = match gateway {
            Gateway::Proxy(plan, own_port) => {
                let of_program = Judge {
                    process_id: plan.process_id.clone(),
                    rules: plan.rules.clone(),
                    patience: plan.patience,
                    overseer_slot: network.overseer_slot(),
                    connect_time: limits.network.network_connect_time,
                    longest_wait: limits.connection.longest_wait,
                    lookups: dial::lookups(),
                    own_network: own_port.is_none(),
                    upstream: plan.upstream.clone(),
                    allows_upstream: plan.allows_upstream,
                };
                own_ports.extend(own_port);
                let of_program = Arc::clone(judge.insert(Arc::new(of_program)));
                OpenGateway::Proxy { socks: plan.socks, judge: of_program, relay: relay.clone() }
            }
            Gateway::Bridge(port) => OpenGateway::Bridge(port),
        };
        open.push(serve(listener, gateway, Arc::clone(&slots), Arc::clone(limits)));
    }
    let relayed = relay.zip(judge.clone()).map(|(relay, judge)| {
        let NetworkLimits { network_connections, network_datagram_time, .. } = limits.network;
        async move { relay.serve(judge, network_connections, network_datagram_time).await }
    });
    let stack = stack.zip(judge).map(|(stack, judge)| {
        // Its own, since gateways hold one each while nobody comes.
        let slots = connection_slots::of_one(limits.network.network_connections);
        transparent::serve(stack, judge, slots)
    });
    let (release, released) = oneshot::channel();
    let session_over = network.over();
    tokio::spawn(async move {
        tokio::select! {
            _ = async { tokio::join!(join_all(open), OptionFuture::from(stack), OptionFuture::from(relayed)) } => {}
            () = session_over => {}
            () = unused(released, origin) => {}
        }
        // The listeners are gone by now: they ended with the branches above.
        drop(own_ports);
    });
    Ok(NetworkHandle(release))
}

/// Completes when no process is left that could use the network.
async fn unused(released: oneshot::Receiver<Vec<ProcessStamp>>, origin: Origin) {
    let Ok(mut left) = released.await else { return };
    loop {
        left.retain(|stamp| orphans::is_running(*stamp).unwrap_or(false));
        if left.is_empty() {
            // Known descendants may have started children meanwhile.
            let looked = blocking::spawn(move || orphans::still_running(origin)).await;
            left = looked.ok().and_then(Result::ok).unwrap_or_default();
        }
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Clone)]
enum OpenGateway {
    Proxy { socks: bool, judge: Arc<Judge>, relay: Option<Arc<Relay>> },
    Bridge(u16),
}

/// Accepts connections for ever; open ones end together with it.
async fn serve(listener: AsyncFd<OwnedFd>, gateway: OpenGateway, slots: Arc<Semaphore>, limits: Arc<Limits>) {
    let all = connection_slots::of_all();
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        // Nobody has a place for the whole server's before there is a connection that needs it, and no connection is
        // taken before there is a place.
        let Ok(mut ready) = listener.readable().await else { return };
        let Ok(place) = Arc::clone(&all).acquire_owned().await else { return };
        let (stream, client) = match ready.try_io(accept) {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a network proxy can't accept a connection");
                drop(place);
                tokio::time::sleep(REST).await;
                continue;
            }
            Err(_would_block) => continue,
        };
        while connections.try_join_next().is_some() {}
        let (gateway, limits) = (gateway.clone(), Arc::clone(&limits));
        connections.spawn(async move {
            match gateway {
                OpenGateway::Bridge(port) => bridge(stream, port, &limits).await,
                OpenGateway::Proxy { socks, judge, relay } => {
                    greet(stream, client, socks.then_some(relay.as_deref()), judge, &limits).await;
                }
            }
            drop((slot, place));
        });
    }
}

fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<(TcpStream, SocketAddr)> {
    let fd = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let stream = TcpStream::from_std(fd.into())?;
    stream.set_nodelay(true)?;
    let client = stream.peer_addr()?;
    Ok((stream, client))
}

async fn bridge(mut stream: TcpStream, port: u16, limits: &Limits) {
    // This server may have begun to listen on it since the program was started.
    if own_port::is_ours(port) {
        return;
    }
    let connecting = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    // A program that is not let in sees its connection end.
    if let Ok(Ok(mut target)) = timeout(limits.network.network_connect_time, connecting).await
        && target.set_nodelay(true).is_ok()
    {
        tunnel::carry(&mut stream, &mut target).await;
    }
}

/// No HTTP method begins with SOCKS's version. `socks` says whether that is spoken, and what carries its datagrams.
async fn greet(
    stream: TcpStream,
    client: SocketAddr,
    socks: Option<Option<&Relay>>,
    judge: Arc<Judge>,
    limits: &Limits,
) {
    let mut first = [0];
    let Ok(Ok(1)) = timeout(limits.network.network_head_time, stream.peek(&mut first)).await else { return };
    let client = Some(client.to_string());
    match socks {
        Some(relay) if first == [socks::VERSION] => by_socks(stream, client, relay, &judge, limits).await,
        _ => http::serve(stream, client, judge, limits).await,
    }
}

async fn by_socks(
    mut stream: TcpStream,
    client: Option<String>,
    relay: Option<&Relay>,
    judge: &Judge,
    limits: &Limits,
) {
    let received = timeout(limits.network.network_head_time, socks::receive(&mut stream)).await;
    let socks::Target { host, port } = match received {
        Ok(Ok(socks::Asked::Connection(target))) => target,
        Ok(Ok(socks::Asked::Datagrams)) => return associate(stream, relay).await,
        _ => return,
    };
    let wish = Wish { protocol: Protocol::Socks5Tcp, host, port, method: None, has_body: false };
    match judge.admit(&wish, client.as_deref()).await {
        Ok(mut target) => {
            if socks::answer(&mut stream, socks::Reply::Connected).await.is_ok() {
                tunnel::carry(&mut stream, &mut target).await;
            }
        }
        Err(refusal) => drop(socks::answer(&mut stream, socks::Reply::from(&refusal)).await),
    }
}

/// Has the program's datagrams carried as long as it keeps this connection.
async fn associate(mut stream: TcpStream, relay: Option<&Relay>) {
    let Some(relay) = relay else {
        let refused: io::Result<()> = socks::give_up(&mut stream, socks::Reply::NoSuchCommand).await;
        drop(refused);
        return;
    };
    let _association = relay.associate();
    if socks::answer_datagrams(&mut stream, relay.address()).await.is_ok() {
        // Nothing more is said on it.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}
