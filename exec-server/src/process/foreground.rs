//! A filtered network for a program on this process's own terminal: `codex sandbox --transparent-tcp` (21.3).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use codex_children::orphans::Origin;
use codex_exec_protocol::RpcError;
use codex_exec_protocol::network::{DomainRule, NetworkMode, NetworkProxy, ProxySettings};

use super::network_plan::{NetworkPlan, Opened};
use super::plan::stack_bounds;
use crate::Limits;
use crate::network::proxy::{self, NetworkHandle};
use crate::network::transparent::Stack;
use crate::network::{SessionNetwork, variables};
use crate::sandbox::{Confined, stack};

/// A network that a confinement will have.
pub struct ForegroundNetwork {
    opened: Opened,
    limits: Arc<Limits>,
}

/// Serves a program's network until it is dropped.
pub struct OpenNetwork {
    _handle: NetworkHandle,
    _network: SessionNetwork,
}

impl ForegroundNetwork {
    /// Gives a confinement, which has a network of its own, a device that all TCP leaves by: to public hosts that fit one of
    /// these patterns (`docs/network.md`). Points `env` at the proxy that it has as well.
    ///
    /// # Errors
    /// `-32602` for a pattern that makes no sense.
    pub fn new(
        hosts: &[String],
        confined: &mut Confined,
        env: &mut Vec<(OsString, OsString)>,
    ) -> Result<Self, RpcError> {
        let plan = NetworkPlan::transparent(&asked(hosts))?;
        let opened = plan.open(true)?;
        opened.listen_in(Some(confined));
        if let Some(port) = opened.proxy_port() {
            variables::point_at(env, port, true, false);
        }
        Ok(Self { opened, limits: Arc::default() })
    }

    /// Serves it, once the program runs; `handed` is what its launcher made. In a tokio runtime; blocks for as long as a
    /// start.
    ///
    /// # Errors
    /// The system's.
    pub fn open(
        self,
        handed: Vec<OwnedFd>,
        launcher: &Path,
        confined: &Confined,
        origin: Origin,
    ) -> io::Result<OpenNetwork> {
        let gateways = self.opened.gateways(handed)?;
        let stack = gateways.device.zip(confined.for_stack());
        let start = |(given, walls)| -> io::Result<Stack> {
            let (link, process) = stack::start(launcher, walls, &given, stack_bounds(&self.limits))?;
            Ok(Stack { link, process })
        };
        let stack = stack.map(start).transpose()?;
        let network = SessionNetwork::default();
        let handle =
            proxy::open(gateways.listening, gateways.datagrams, stack, &network, &self.limits, origin)?;
        Ok(OpenNetwork { _handle: handle, _network: network })
    }
}

/// What a client would ask for.
fn asked(hosts: &[String]) -> NetworkProxy {
    let domains: BTreeMap<String, DomainRule> =
        hosts.iter().map(|host| (host.clone(), DomainRule::Allow)).collect();
    let proxy = ProxySettings {
        enabled: true,
        enable_socks5: true,
        enable_socks5_udp: false,
        allow_upstream_proxy: false,
        dangerously_allow_all_unix_sockets: false,
        mode: NetworkMode::Full,
        allow_local_binding: false,
        domains: Some(domains),
        unix_sockets: None,
        review_domains: None,
        credential_providers: None,
        credential_masking: false,
        transparent_tcp: true,
    };
    NetworkProxy {
        proxy,
        audit_metadata: None,
        environment_id: None,
        execution_id: None,
        policy_decision_timeout_ms: None,
    }
}
