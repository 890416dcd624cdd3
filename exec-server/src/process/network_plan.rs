//! What a start request asks of the network, and the gateways that are opened for its program (section 13).

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use codex_exec_protocol::network::NetworkProxy;
use codex_exec_protocol::process::StartParams;
use codex_exec_protocol::sandbox::{Permissions, Profile, Sandbox};
use codex_exec_protocol::{ProcessId, RpcError};
use codex_tcp_stack::Given;

use crate::network::Upstream;
use crate::network::policy::Rules;
use crate::network::proxy::{Gateway, ProxyPlan};
use crate::own_port::{self, OwnPort};
use crate::sandbox::{self, Confined};

/// Ports of loopback that one program may reach; more are refused. A safeguard, far from any real use.
const MOST_PORTS: usize = 16;
/// Where a proxy listens in a network of its own, unless that port is bridged: the usual one for a proxy.
const PROXY_PORT: u16 = 3128;

/// What a program without a client is called in reports, which nobody reads.
const FOREGROUND: &str = "foreground";

/// What is asked of a program's network.
pub(super) struct NetworkPlan {
    proxy: Option<Arc<ProxyPlan>>,
    /// Ports of the machine's loopback that a network of its own leads to.
    bridges: Vec<u16>,
    local: bool,
    /// Only what goes through the proxy and the bridges is to be possible.
    enforce: bool,
    /// The program's connections go through the proxy without its doing.
    pub(super) transparent: bool,
}

/// A program's network, ready to be started with.
pub(super) enum Opened {
    /// That of the machine.
    Machine,
    /// That of the machine, with a proxy on its loopback.
    Beside(Gateways),
    /// One of its own with these gateways, by the ports that they have in there. With a device, whatever else the program
    /// connects to goes by the rules of its proxy. Datagrams come in at the proxy's port, if they do.
    Own { gateways: Vec<(u16, Gateway)>, datagrams: Option<u16>, device: bool },
}

/// What a program's network leads to.
#[derive(Default)]
pub(super) struct Gateways {
    pub(super) listening: Vec<OpenGateway>,
    /// What datagrams for the proxy come in by.
    pub(super) datagrams: Option<UdpSocket>,
    /// What belongs to the device.
    pub(super) device: Option<Given>,
}

/// A gateway on the listener that leads to it.
pub(super) type OpenGateway = (TcpListener, Gateway);

/// Whether the request's sandbox has something to enforce on the program.
pub(super) fn needs_enforcement(asked: &Sandbox, params: &StartParams) -> bool {
    let exists = !matches!(asked.permissions, Permissions::Tagged(Profile::Disabled));
    asked.needs_enforcement_for_programs()
        || (exists && (params.enforce_managed_network || asks_transparent(params)))
}

impl NetworkPlan {
    /// Takes the network wishes out of a start request.
    ///
    /// # Errors
    /// `-32602` for what makes no sense, `-32600` for what can't be done.
    /// `transparent` asks for transparent TCP with every network that is enforced.
    pub(super) fn new(
        params: &StartParams,
        transparent: bool,
        upstream: &Upstream,
    ) -> Result<Self, RpcError> {
        let transparent = is_transparent(params, transparent)?;
        let mut bridges =
            params.managed_network.as_ref().map_or_else(Vec::new, |managed| managed.loopback_ports.clone());
        bridges.sort_unstable();
        bridges.dedup();
        if bridges.first() == Some(&0) || bridges.len() > MOST_PORTS {
            return Err(RpcError::invalid_params(format!(
                "loopbackPorts takes at most {MOST_PORTS} ports, each from 1 to 65535"
            )));
        }
        if let Some(port) = bridges.iter().find(|port| own_port::is_ours(**port)) {
            return Err(RpcError::invalid_request(format!(
                "loopbackPorts can't lead to port {port}, which this server itself listens on; leave it out"
            )));
        }
        let proxy = params
            .network_proxy
            .as_ref()
            .map(|asked| proxy_plan(&params.process_id, asked, upstream))
            .transpose()?;
        if upstream.tcp.is_some() && params.enforce_managed_network && proxy.is_none() {
            return Err(RpcError::invalid_params(
                "a mandatory TCP upstream requires an executor-local managed proxy",
            ));
        }
        Ok(Self {
            proxy: proxy.map(Arc::new),
            bridges,
            local: params.network_proxy.as_ref().is_some_and(|asked| asked.proxy.allow_local_binding),
            enforce: params.enforce_managed_network || transparent,
            transparent,
        })
    }

    /// A network that only a proxy leads out of, without the program's doing; nobody is asked.
    ///
    /// # Errors
    /// `-32602` for a pattern that makes no sense.
    pub(super) fn transparent(asked: &NetworkProxy) -> Result<Self, RpcError> {
        let proxy = proxy_plan(&ProcessId::from(FOREGROUND), asked, &Upstream::default())?;
        Ok(Self {
            proxy: Some(Arc::new(proxy)),
            bridges: Vec::new(),
            local: false,
            enforce: true,
            transparent: true,
        })
    }

    /// What the sandbox's network becomes.
    ///
    /// # Errors
    /// `-32600` when the network is to be filtered and nothing would lead through.
    pub(super) fn enforced(&self, network: sandbox::NetworkRight) -> Result<sandbox::NetworkRight, RpcError> {
        let leads_somewhere = self.proxy.is_some() || !self.bridges.is_empty();
        let filtered = self.enforce
            || match network {
                sandbox::NetworkRight::Open => !self.bridges.is_empty(),
                // The proxy is asked for in the same request that closes everything else.
                sandbox::NetworkRight::Closed | sandbox::NetworkRight::Filtered => self.proxy.is_some(),
            };
        match (filtered, leads_somewhere) {
            (false, _) => Ok(network),
            (true, true) => Ok(sandbox::NetworkRight::Filtered),
            (true, false) => Err(RpcError::invalid_request(
                "enforceManagedNetwork limits the program's network to a proxy, and there is none; send \
                 networkProxy or managedNetwork.loopbackPorts, or network \"restricted\" alone to keep it from the network",
            )),
        }
    }

    /// Opens what the program needs outside of a network of its own, and names what it needs inside of one.
    ///
    /// # Errors
    /// `-32603` when no port can be listened on.
    pub(super) fn open(&self, own: bool) -> Result<Opened, RpcError> {
        let proxy = |own_port| self.proxy.as_ref().map(|plan| Gateway::Proxy(Arc::clone(plan), own_port));
        if own {
            let bridges = self.bridges.iter().map(|port| (*port, Gateway::Bridge(*port)));
            let at = (PROXY_PORT..).find(|port| !self.bridges.contains(port)).unwrap_or(PROXY_PORT);
            let gateways = proxy(None).map(|gateway| (at, gateway)).into_iter().chain(bridges).collect();
            let carries_datagrams = self.proxy.as_ref().is_some_and(|plan| plan.datagrams);
            let datagrams = carries_datagrams.then_some(at);
            return Ok(Opened::Own { gateways, datagrams, device: self.transparent });
        }
        let Some(plan) = &self.proxy else { return Ok(Opened::Machine) };
        let failed =
            |error| RpcError::internal(format!("can't listen for the program's network proxy: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        // Programs that are filtered must not get out by those that are not.
        let own_port = OwnPort::register(listener.local_addr().map_err(failed)?.port());
        let datagrams = plan.datagrams.then(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
        let datagrams = datagrams.transpose().map_err(failed)?;
        let listening = proxy(Some(own_port)).map(|gateway| (listener, gateway)).into_iter().collect();
        Ok(Opened::Beside(Gateways { listening, datagrams, device: None }))
    }

    /// Whether SOCKS5 is spoken, and whether local addresses are allowed.
    pub(super) fn socks_and_local(&self) -> (bool, bool) {
        (self.proxy.as_ref().is_some_and(|proxy| proxy.socks), self.local)
    }
}

impl Opened {
    /// The port on loopback that the program finds its proxy at.
    pub(super) fn proxy_port(&self) -> Option<u16> {
        match self {
            Self::Machine => None,
            Self::Beside(gateways) => {
                gateways.listening.first().and_then(|(listener, _)| Some(listener.local_addr().ok()?.port()))
            }
            Self::Own { gateways, .. } => gateways
                .iter()
                .find(|(_, gateway)| matches!(gateway, Gateway::Proxy(..)))
                .map(|(port, _)| *port),
        }
    }

    /// Has a confinement with a network of its own listen in there.
    pub(super) fn listen_in(&self, confined: Option<&mut Confined>) {
        if let (Self::Own { gateways, datagrams, device }, Some(confined)) = (self, confined) {
            confined.listen_on(gateways.iter().map(|(port, _)| *port).collect(), *datagrams, *device);
        }
    }

    /// The gateways on their listeners, once the program runs; `handed` is what the launcher made in a network of its own.
    ///
    /// # Errors
    /// When the launcher has not handed over what it was told to.
    pub(super) fn gateways(self, handed: Vec<OwnedFd>) -> io::Result<Gateways> {
        let (gateways, datagrams, device) = match self {
            Self::Machine => return Ok(Gateways::default()),
            Self::Beside(gateways) => return Ok(gateways),
            Self::Own { gateways, datagrams, device } => (gateways, datagrams, device),
        };
        let unexpected = || io::Error::from_raw_os_error(libc::EBADMSG);
        let mut handed = handed.into_iter();
        let listening = |(_, gateway)| Some((TcpListener::from(handed.next()?), gateway));
        let listening: Vec<_> =
            gateways.into_iter().map(listening).collect::<Option<_>>().ok_or_else(unexpected)?;
        let datagrams = match datagrams {
            Some(_) => Some(UdpSocket::from(handed.next().ok_or_else(unexpected)?)),
            None => None,
        };
        let rest: Vec<OwnedFd> = handed.collect();
        let given = match <[OwnedFd; 3]>::try_from(rest) {
            Ok([device, datagrams, listener]) => Some(Given { device, datagrams, listener }),
            Err(rest) if rest.is_empty() => None,
            _ => return Err(unexpected()),
        };
        if given.is_some() != device {
            return Err(unexpected());
        }
        Ok(Gateways { listening, datagrams, device: given })
    }
}

/// What released servers say where transparent TCP can't be had.
pub(super) const NO_DEVICE: &str = "transparent TCP requires a supported distro bubblewrap on PATH";

/// Whether the request itself asks for transparent TCP (21.3).
fn asks_transparent(params: &StartParams) -> bool {
    let by_proxy = params.network_proxy.as_ref().is_some_and(|asked| asked.proxy.transparent_tcp);
    by_proxy || params.managed_network.as_ref().is_some_and(|managed| managed.transparent_tcp)
}

/// Whether the program's connections are to go through its proxy without its doing (21.3). With `always` they do where a
/// network is enforced.
///
/// # Errors
/// `-32602` in the words of released servers, for a request that leaves out what it takes.
fn is_transparent(params: &StartParams, always: bool) -> Result<bool, RpcError> {
    let proxy = params.network_proxy.as_ref().map(|asked| &asked.proxy);
    let is_sandboxed = params
        .sandbox
        .as_ref()
        .is_some_and(|asked| !matches!(asked.permissions, Permissions::Tagged(Profile::Disabled)));
    if !asks_transparent(params) {
        let is_meant = always && is_sandboxed && params.enforce_managed_network && proxy.is_some();
        return match proxy {
            Some(proxy) if is_meant && !proxy.enable_socks5 => Err(RpcError::invalid_params(
                "failed to prepare transparent TCP: transparent TCP requires managed SOCKS5",
            )),
            _ => Ok(is_meant),
        };
    }
    let words = match proxy {
        None => "transparent TCP requires an executor-local managed proxy",
        Some(_) if !is_sandboxed => "transparent TCP requires a managed Linux sandbox",
        Some(proxy) if !proxy.enable_socks5 => {
            "invalid network proxy config: transparent_tcp requires an enabled managed SOCKS5 proxy"
        }
        Some(_) => return Ok(true),
    };
    Err(RpcError::invalid_params(words))
}

fn proxy_plan(
    process_id: &ProcessId,
    asked: &NetworkProxy,
    upstream: &Upstream,
) -> Result<ProxyPlan, RpcError> {
    Ok(ProxyPlan {
        process_id: process_id.clone(),
        rules: Rules::new(&asked.proxy)?,
        socks: asked.proxy.enable_socks5,
        datagrams: asked.proxy.enable_socks5 && asked.proxy.enable_socks5_udp,
        patience: asked.policy_decision_timeout_ms.map(|given| Duration::from_millis(given.get())),
        upstream: upstream.clone(),
        allows_upstream: asked.proxy.allow_upstream_proxy,
    })
}
