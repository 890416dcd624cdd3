//! Decides about a host by the request's rules alone: no I/O, no questions.

use std::net::IpAddr;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::network::{DomainRule, NetworkMode, Protocol, ProxySettings};

use super::address::{embedded, is_for_this_machine, is_public};
use super::host::HostName;
use super::pattern::{Pattern, PatternError, Reach};

/// HTTP methods that only read.
const READING: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// The rules of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    allowed: Vec<Pattern>,
    denied: Vec<Pattern>,
    review: Vec<Pattern>,
    only_reading: bool,
    /// Whether addresses that are not public may be reached.
    local: bool,
}

/// Where a program wants to go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// How the program asks.
    pub protocol: Protocol,
    /// The host it wants.
    pub host: HostName,
    /// The port it wants; not 0.
    pub port: u16,
    /// The HTTP method, where there is one.
    pub method: Option<String>,
    /// Whether it sends more than a head.
    pub has_body: bool,
}

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may, if its addresses may.
    Allowed,
    /// The program must not go there.
    Refused(Reason),
    /// Somebody has to be asked; without anybody it may not.
    Undecided,
}

/// An address that a host turned out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The address to connect to.
    pub address: IpAddr,
    /// The port to connect to.
    pub port: u16,
    /// Whether it is one of this machine's.
    pub is_own: bool,
    /// Whether this server listens on that port of this machine.
    pub is_this_server: bool,
}

/// Why something may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A rule denies it.
    Denied,
    /// No rule allows it.
    NotAllowed,
    /// It is an address of this machine or its network.
    NotAllowedLocal,
    /// This server listens on that port of this machine.
    ThisServer,
    /// It is the address that stands for none.
    Unspecified,
    /// The name leads to loopback, or to a service for this machine only, and no rule allows that address itself.
    LeadsInside,
    /// Only reading is allowed, and this request does more or can't be inspected.
    OnlyReading,
}

/// A rule of the request that makes no sense, or that can't be followed here.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A pattern; on the wire `-32602`.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// On the wire `-32600`.
    #[error(
        "this server's network proxy can't put credentials into requests, as credentialMasking and \
         credentialProviders ask for; leave them out"
    )]
    Credentials,
}

impl From<RulesError> for RpcError {
    fn from(error: RulesError) -> Self {
        match error {
            RulesError::Pattern(_) => Self::invalid_params(error.to_string()),
            RulesError::Credentials => Self::invalid_request(error.to_string()),
        }
    }
}

impl Reason {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
            Self::NotAllowedLocal | Self::ThisServer | Self::Unspecified | Self::LeadsInside => {
                "not_allowed_local"
            }
            Self::OnlyReading => "method_not_allowed",
        }
    }
}

impl Rules {
    /// Reads a request's rules.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn new(settings: &ProxySettings) -> Result<Self, RulesError> {
        let has_providers =
            settings.credential_providers.as_ref().is_some_and(|providers| !providers.is_empty());
        if has_providers || settings.credential_masking {
            return Err(RulesError::Credentials);
        }
        let patterns = |wanted: DomainRule| {
            let domains = settings.domains.iter().flatten().filter(move |(_, rule)| **rule == wanted);
            Pattern::parse_all(domains.map(|(pattern, _)| pattern.as_str()))
        };
        // Rules that say nothing have to make sense as well.
        patterns(DomainRule::None)?;
        Ok(Self {
            allowed: patterns(DomainRule::Allow)?,
            denied: patterns(DomainRule::Deny)?,
            review: Pattern::parse_all(settings.review_domains.iter().flatten().map(String::as_str))?,
            only_reading: settings.mode == NetworkMode::Limited,
            local: settings.allow_local_binding,
        })
    }

    /// What the rules say. No name is looked up for it: even the lookup of a refused name would carry data out.
    pub fn judge(&self, wish: &Wish) -> Verdict {
        if self.denies(&wish.host, wish.port) {
            return Verdict::Refused(Reason::Denied);
        }
        if matches!(wish.host, HostName::Address(address) if address.is_unspecified()) {
            return Verdict::Refused(Reason::Unspecified);
        }
        if !self.local && is_surely_local(&wish.host) {
            return Verdict::Refused(Reason::NotAllowedLocal);
        }
        if self.only_reading && !only_reads(wish) {
            return Verdict::Refused(Reason::OnlyReading);
        }
        if self.allows(&wish.host, wish.port) && !any(&self.review, &wish.host, wish.port, Reach::Name) {
            return Verdict::Allowed;
        }
        Verdict::Undecided
    }

    /// Whether a rule allows this host, whatever other rules say.
    pub fn allows(&self, host: &HostName, port: u16) -> bool {
        any(&self.allowed, host, port, Reach::Label)
    }

    /// All of loopback is `localhost`.
    fn denies(&self, host: &HostName, port: u16) -> bool {
        let is_loopback = match host {
            HostName::Address(address) => address.is_loopback(),
            HostName::Name(_) => host.is_localhost(),
        };
        any(&self.denied, host, port, Reach::Name)
            || (is_loopback && any(&self.denied, &HostName::localhost(), port, Reach::Name))
    }

    /// Whether an address of a host may be reached. No earlier allowance lifts this.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check_address(&self, host: &HostName, found: Found) -> Result<(), Reason> {
        let Found { address, port, is_own, is_this_server } = found;
        let address = embedded(address).map_or(address, IpAddr::V4);
        let as_host = HostName::Address(address);
        if self.denies(&as_host, port) {
            return Err(Reason::Denied);
        }
        if address.is_unspecified() {
            return Err(Reason::Unspecified);
        }
        if is_this_server && (is_own || address.is_loopback()) {
            return Err(Reason::ThisServer);
        }
        if !self.local && (is_own || !is_public(address)) {
            return Err(Reason::NotAllowedLocal);
        }
        // The owner of an allowed name can lead it anywhere.
        let may_lead_there = matches!(host, HostName::Address(_))
            || (host.is_localhost() && address.is_loopback())
            || (self.allows(&as_host, port) && !any(&self.review, &as_host, port, Reach::Name));
        if is_for_this_machine(address) && !may_lead_there {
            return Err(Reason::LeadsInside);
        }
        Ok(())
    }
}

fn any(patterns: &[Pattern], host: &HostName, port: u16, reach: Reach) -> bool {
    patterns.iter().any(|pattern| pattern.matches(host, port, reach))
}

fn only_reads(wish: &Wish) -> bool {
    // Nobody sees what goes through a tunnel.
    wish.protocol == Protocol::Http
        && !wish.has_body
        && wish.method.as_deref().is_some_and(|method| READING.contains(&method))
}

/// Without looking it up.
fn is_surely_local(host: &HostName) -> bool {
    match host {
        HostName::Address(address) => !is_public(*address),
        HostName::Name(_) => host.is_localhost(),
    }
}
