//! The managed network: what a filtering proxy allows, its questions to the client and its reports (section 13).

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::encode::encode_with_serde;
use crate::ids::ProcessId;
use crate::{methods, notifications};

methods! {
    /// Asks the client about a host that no rule decides; from server to client.
    PolicyRequest: "network/policyRequest" (PolicyRequestParams) -> PolicyAnswer;
}
notifications! {
    /// Reports a final decision; from server to client.
    PolicyDecision: "network/policyDecision" (PolicyDecisionParams);
}

/// `networkProxy` of `process/start`: a filtering proxy for the program.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkProxy {
    /// What the proxy allows.
    pub proxy: ProxySettings,
    /// Who asks: texts by name; read for its type only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_metadata: Option<BTreeMap<String, Option<String>>>,
    /// Read for its type only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// Read for its type only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// Its presence switches the questions on; the client promises to decide within this many milliseconds. 0 is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_decision_timeout_ms: Option<NonZeroU64>,
}

/// What a filtering proxy allows.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools)]
pub struct ProxySettings {
    /// Always true; false is refused.
    #[serde(deserialize_with = "only_true")]
    pub enabled: bool,
    /// Whether SOCKS5 is spoken beside HTTP.
    pub enable_socks5: bool,
    /// Whether UDP goes through SOCKS5.
    pub enable_socks5_udp: bool,
    /// Whether a proxy of the server's own environment may be used on the way out.
    pub allow_upstream_proxy: bool,
    /// Whether every Unix socket may be reached through the proxy.
    pub dangerously_allow_all_unix_sockets: bool,
    /// Which requests are allowed.
    pub mode: NetworkMode,
    /// Whether addresses of this machine and its network may be reached.
    pub allow_local_binding: bool,
    /// Rules by host pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<BTreeMap<String, DomainRule>>,
    /// Rules by path of a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_sockets: Option<BTreeMap<String, SocketRule>>,
    /// Host patterns that are asked about even where a rule allows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_domains: Option<Vec<String>>,
    /// Providers of credentials that the proxy is to add to requests; their content is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_providers: Option<BTreeMap<String, serde_json::Value>>,
    /// Whether programs see only stand-ins for credentials of their environment, which the proxy puts the credentials in for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub credential_masking: bool,
    /// Whether the program's connections go through the proxy without its doing (21.3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transparent_tcp: bool,
}

/// Which requests a proxy lets through.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Requests that only read.
    Limited,
    /// Every request.
    Full,
}

/// What a rule says of a host.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainRule {
    /// The rule says nothing.
    None,
    /// It may be reached, unless another rule denies it.
    Allow,
    /// It may not be reached, whatever else is said.
    Deny,
}

/// What a rule says of a Unix socket.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketRule {
    /// It may be reached.
    Allow,
    /// It may not be reached.
    Deny,
}

/// How a program asks the proxy to go somewhere.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A plain HTTP request.
    Http,
    /// A tunnel by HTTP's `CONNECT`.
    HttpsConnect,
    /// A connection by SOCKS5.
    Socks5Tcp,
    /// Datagrams by SOCKS5.
    Socks5Udp,
}

/// Params of `network/policyRequest`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRequestParams {
    /// The process that the program was started as.
    pub process_id: ProcessId,
    /// Where it wants to go.
    pub request: HostRequest,
}

/// Where a program wants to go.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRequest {
    /// How the program asked the proxy.
    pub protocol: Protocol,
    /// Lower case, without a trailing dot; an address without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// Result of `network/policyRequest`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// What the client decided.
    pub decision: Decision,
}

/// What the client decided.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Decision {
    /// This once it may.
    Allow,
    /// The program must not go there.
    Deny {
        /// For the program and the report; without one it is `not_allowed`.
        #[serde(default = "not_allowed")]
        reason: String,
    },
    /// A person has to be asked first; this request is refused.
    Ask {
        /// For the program and the report; without one it is `not_allowed`.
        #[serde(default = "not_allowed")]
        reason: String,
    },
}

/// Params of `network/policyDecision`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDecisionParams {
    /// The process that the program was started as.
    pub process_id: ProcessId,
    /// RFC 3339 in UTC with milliseconds.
    pub timestamp: String,
    /// Always `domain`.
    pub scope: String,
    /// The decision.
    pub decision: DecisionWord,
    /// Whose decision it was.
    pub source: DecisionSource,
    /// One word of the proxy's own, or the client's text.
    pub reason: String,
    /// How the program asked.
    pub protocol: Protocol,
    /// Where it wanted to go.
    pub host: String,
    /// Where it wanted to go.
    pub port: u16,
    /// The HTTP method; null with SOCKS.
    pub method: Option<String>,
    /// The program's end of its connection to the proxy.
    pub client: Option<String>,
    /// Whether the client allowed what the rules alone would have refused.
    pub policy_override: bool,
}

/// A decision in one word.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionWord {
    /// The program may go there.
    Allow,
    /// The program must not go there.
    Deny,
    /// It may not before a person was asked.
    Ask,
}

/// Whose decision it was.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionSource {
    /// The client, when it was asked.
    Decider,
    /// The rules of the start request.
    BaselinePolicy,
}

fn not_allowed() -> String {
    "not_allowed".to_owned()
}

fn only_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    if bool::deserialize(deserializer)? {
        return Ok(true);
    }
    Err(D::Error::custom("enabled must be true; leave networkProxy out to start without a proxy"))
}

encode_with_serde!(PolicyAnswer);
