//! `[exec_server]`: where the server listens, who may connect, and its bounds. Released programs do not know this table.

use std::net::SocketAddr;
use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::limits::Limits;
use crate::number::Number;

/// Settings of `codex exec-server`. A flag of the command line beats the setting of the same name. Project files can't
/// set any of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[cfg_attr(test, schemars(deny_unknown_fields))]
pub struct ExecServerConfig {
    /// Where to listen: `ws://IP:PORT` (port 0 picks one), `unix://PATH`, `stdio`, or `fd://`.
    pub listen: Option<String>,
    /// How a client proves that it may connect. Required, if only as `none`, for an address that is not loopback.
    pub ws_auth: Option<WsAuth>,
    /// File that holds the token for `ws_auth = "capability-token"`. A relative path starts at the file that names it.
    pub ws_token_file: Option<PathBuf>,
    /// SHA-256 of the token for `ws_auth = "capability-token"`, as 64 hex digits; instead of `ws_token_file`.
    pub ws_token_sha256: Option<String>,
    /// File that holds the secret of at least 32 bytes for `ws_auth = "signed-bearer-token"`. A relative path starts at
    /// the file that names it.
    pub ws_shared_secret_file: Option<PathBuf>,
    /// The issuer (iss) that a signed token must name.
    pub ws_issuer: Option<String>,
    /// The audience (aud) that a signed token must name.
    pub ws_audience: Option<String>,
    /// How far the clocks of both sides may differ, in seconds; default 30.
    pub ws_max_clock_skew_seconds: Option<Number<0, 86400>>,
    /// What happens to programs that outlive the process that started them, when their session ends.
    pub leftovers: Option<Leftovers>,
    /// Whether a small process stands above the server, holds its listening socket, and starts it again when it dies;
    /// default true. Over stdio there is none.
    pub keeper: Option<bool>,
    /// How many slow requests (files, HTTP) of one connection run at once; default 64. Beats
    /// `limits.concurrent_requests`.
    pub concurrent_requests: Option<Number<1, { u32::MAX as u64 }>>,
    /// Directories that clients may put in front of `PATH`, as absolute paths.
    pub prepend_path_dirs: Vec<PathBuf>,
    /// Directory for the output of programs that is kept on disk; default `codex-exec-server` in `XDG_STATE_HOME`, or in
    /// `.local/state` of the home directory. A relative path starts at the file that names it.
    pub state_dir: Option<PathBuf>,
    /// File to which each act is appended as a line of JSON. A relative path starts at the file that names it.
    pub audit: Option<PathBuf>,
    /// Whether a request is refused when there is no room for its record in `audit`; otherwise it is counted as not recorded.
    pub audit_required: Option<bool>,
    /// Whether `GET /metrics` is answered where the server listens, to who may connect.
    pub metrics: Option<bool>,
    /// An address on loopback, as `IP:PORT`, where `GET /metrics` is answered besides.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub metrics_listen: Option<SocketAddr>,
    /// Sandboxes of programs and file calls.
    pub sandbox: SandboxConfig,
    /// What a rendezvous of many nodes shares.
    pub rendezvous: RendezvousConfig,
    /// The server's bounds, as far as the file names them.
    pub limits: Limits,
}

impl ExecServerConfig {
    /// Keys of this table whose relative paths start at the directory of the file that names them.
    pub(crate) const PATHS: [&str; 4] = ["ws_token_file", "ws_shared_secret_file", "state_dir", "audit"];
}

/// `[exec_server.rendezvous]`: how `codex exec-server rendezvous` is one of several nodes (`docs/scale.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[cfg_attr(test, schemars(deny_unknown_fields))]
pub struct RendezvousConfig {
    /// The NATS servers by which the nodes find each other: `nats://HOST:PORT` or `tls://HOST:PORT`, without a password.
    pub cluster: Vec<String>,
    /// Where agents reach this node and no other: `https://HOST` or `http://HOST`.
    pub node_url: Option<String>,
    /// File with the secret that the nodes share. A relative path starts at the file that names it.
    pub cluster_secret_file: Option<PathBuf>,
    /// File with what the NATS servers ask for: `USER:PASSWORD`, or a token. A relative path starts at the file that names it.
    pub cluster_credentials_file: Option<PathBuf>,
    /// Take the tokens that the nodes share at the broker.
    pub shared_tokens: bool,
}

impl RendezvousConfig {
    /// Keys of this table whose relative paths start at the directory of the file that names them.
    pub(crate) const PATHS: [&str; 2] = ["cluster_secret_file", "cluster_credentials_file"];
}

/// How a client proves that it may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WsAuth {
    /// Anybody who can reach the address may connect.
    None,
    /// A fixed token.
    CapabilityToken,
    /// A JWT signed with a shared secret.
    SignedBearerToken,
}

/// `[exec_server.sandbox]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[cfg_attr(test, schemars(deny_unknown_fields))]
pub struct SandboxConfig {
    /// What is done where the system allows no namespaces, as in containers, and a profile lets a workspace be written.
    pub without_namespaces: Option<WithoutNamespaces>,
}

/// What is done where the system allows no namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WithoutNamespaces {
    /// The profile is refused.
    Refuse,
    /// It is enforced, but `.git`, `.codex` and `.agents` of the workspace are not protected.
    UnprotectedNames,
}

/// What happens to programs that outlive the process that started them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Leftovers {
    /// They live on.
    Keep,
    /// They are killed.
    Kill,
}
