//! The flags of `codex exec-server`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::sandbox::{MechanismArgs, SandboxFlags};

/// Clocks that differ by more than a day (seconds) are broken, and a token that is valid for longer is no short-lived one.
/// A safeguard, far from any real use.
const LARGEST_CLOCK_SKEW: u64 = 24 * 3600;

/// The flags of `codex exec-server`. Each beats the key of its name in `[exec_server]` of the configuration.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ServeArgs {
    /// Where to listen: ws://IP:PORT (port 0 picks one), unix://PATH, stdio, or fd:// (the socket that a service manager
    /// hands over). The real address is printed on stdout [default: ws://127.0.0.1:0].
    #[arg(long, value_name = "URL")]
    pub(super) listen: Option<String>,
    /// How a client proves that it may connect. Required, if only as `none`, for an address that is not loopback.
    #[arg(long, conflicts_with = "remote", value_name = "MODE")]
    pub(super) ws_auth: Option<WsAuth>,
    /// File that holds the token for --ws-auth capability-token.
    #[arg(long, conflicts_with = "remote", value_name = "PATH")]
    pub(super) ws_token_file: Option<PathBuf>,
    /// SHA-256 of the token for --ws-auth capability-token, as 64 hex digits.
    #[arg(long, conflicts_with = "remote", value_name = "HEX")]
    pub(super) ws_token_sha256: Option<String>,
    /// File that holds the secret of at least 32 bytes for --ws-auth signed-bearer-token.
    #[arg(long, conflicts_with = "remote", value_name = "PATH")]
    pub(super) ws_shared_secret_file: Option<PathBuf>,
    /// The issuer (iss) that a signed token must name.
    #[arg(long, conflicts_with = "remote", value_name = "ISSUER")]
    pub(super) ws_issuer: Option<String>,
    /// The audience (aud) that a signed token must name.
    #[arg(long, conflicts_with = "remote", value_name = "AUDIENCE")]
    pub(super) ws_audience: Option<String>,
    /// How far the clocks of both sides may differ, in seconds [default: 30].
    #[arg(long, conflicts_with = "remote", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=LARGEST_CLOCK_SKEW))]
    pub(super) ws_max_clock_skew_seconds: Option<u64>,
    /// Append a line of JSON to this file for each request that does something: who, what, where, and what came of it; no
    /// argument, variable, input or output. See docs/audit.md.
    #[arg(long, value_name = "FILE")]
    pub(super) audit: Option<PathBuf>,
    /// Refuse a request when there is no room for its audit record, as when the disk is full, instead of counting it.
    #[arg(long, requires = "audit")]
    pub(super) audit_required: bool,
    /// Answer GET /metrics where the server listens, to who may connect. See docs/metrics.md.
    #[arg(long, conflicts_with = "remote")]
    pub(super) metrics: bool,
    /// Answer GET /metrics at an address on loopback as well, also with --remote and over stdio; port 0 picks one, which
    /// stderr tells.
    #[arg(long, value_name = "IP:PORT", value_parser = on_loopback)]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// How many slow requests (files, HTTP) of one connection run at once [default: 64].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) concurrent_requests: Option<u32>,
    /// What happens to programs that outlive the process that started them, when their session ends [default: keep].
    #[arg(long, value_name = "WHAT")]
    pub(super) leftovers: Option<LeftoversArg>,
    /// Run as one process. Without this, a small process stands above the server, holds its listening socket, and starts it
    /// again when it dies; over stdio there is none.
    #[arg(long)]
    pub(super) no_keeper: bool,
    /// Carry every TCP connection of sandboxed programs with an enforced managed network through their proxy, by name, even
    /// if a program knows of none.
    #[arg(long)]
    pub(super) linux_sandbox_transparent_tcp: bool,
    /// Leave private addresses to the proxies of the environment as well, for programs with a managed network that may use
    /// those (allowUpstreamProxy).
    #[arg(long)]
    pub(super) proxy_private_ips_via_upstream: bool,
    /// The HTTP proxy that SOCKS connections of programs with a managed network go through, and no other way: a host and a
    /// port, with an IPv6 address in brackets.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(super) tcp_upstream_proxy: Option<String>,
    /// From the configuration only.
    #[arg(skip)]
    pub(super) prepend_path_dirs: Vec<PathBuf>,
    /// From the configuration only.
    #[arg(skip)]
    pub(super) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) mechanisms: MechanismArgs,
    #[command(flatten)]
    pub(super) sandbox: SandboxFlags,
    /// Leaves the session of whoever started it, so that it stays when that ends; for a server that stays where it was
    /// brought.
    #[arg(long, hide = true)]
    pub(super) own_session: bool,
    /// Sets a bound of the server by its name in limits.rs; for tests.
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    pub(super) limit: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WsAuth {
    /// Anybody who can reach the address may connect.
    None,
    /// A fixed token.
    CapabilityToken,
    /// A JWT signed with a shared secret.
    SignedBearerToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LeftoversArg {
    /// They live on.
    Keep,
    /// They are killed.
    Kill,
}

/// An address that no other machine reaches.
pub(super) fn on_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "it is an IP address and a port, like 127.0.0.1:9464 or [::1]:0".to_owned())?;
    match address.ip().to_canonical().is_loopback() {
        true => Ok(address),
        false => Err(
            "other machines reach it, and nobody is asked for a token there; use an address on loopback, or \
                      --metrics, which asks for what --ws-auth asks for"
                .to_owned(),
        ),
    }
}

/// A host name or address, and a port.
fn host_and_port(text: &str) -> Result<String, String> {
    let wrong =
        || "it is a host name or address and a port, like proxy.example:3128 or [::1]:3128".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_name =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = inside.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    if (is_name || is_address) && is_port { Ok(text.to_owned()) } else { Err(wrong()) }
}
