//! Decides about a host by the request's rules alone: no I/O, no questions.

use std::net::IpAddr;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::network::{DomainRule, NetworkMode, Protocol, ProxySettings};

use super::address::is_public;
use super::host::Host;
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
    /// How.
    pub protocol: Protocol,
    /// Where.
    pub host: Host,
    /// Where; not 0.
    pub port: u16,
    /// The HTTP method.
    pub method: Option<String>,
}

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may, if its addresses may.
    Allowed,
    /// It may not.
    Refused(Reason),
    /// Somebody has to be asked; without anybody it may not.
    Undecided,
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
    /// Only reading is allowed, and this does more or can't be looked into.
    OnlyReading,
}

/// What of a request's rules makes no sense, or can't be done here.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A pattern; on the wire `-32602`.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// On the wire `-32600`.
    #[error(
        "this server's network proxy can't put credentials into requests, as credentialProviders asks for; \
         leave them out"
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
            Self::NotAllowedLocal => "not_allowed_local",
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
        if settings.credential_providers.as_ref().is_some_and(|providers| !providers.is_empty()) {
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

    /// What the rules say. No name is looked up for it: a lookup of a refused name would already carry words out.
    pub fn judge(&self, wish: &Wish) -> Verdict {
        let any = |patterns: &[Pattern], reach| {
            patterns.iter().any(|pattern| pattern.matches(&wish.host, wish.port, reach))
        };
        if any(&self.denied, Reach::Name) {
            return Verdict::Refused(Reason::Denied);
        }
        if !self.local && is_surely_local(&wish.host) {
            return Verdict::Refused(Reason::NotAllowedLocal);
        }
        if self.only_reading && !only_reads(wish) {
            return Verdict::Refused(Reason::OnlyReading);
        }
        if any(&self.allowed, Reach::Label) && !any(&self.review, Reach::Name) {
            return Verdict::Allowed;
        }
        Verdict::Undecided
    }

    /// Whether an address that a host turned out to have may be reached. Nothing that was allowed before lifts this.
    ///
    /// # Errors
    /// The reason why not. `is_own` says that the address is one of this machine's.
    pub fn check_address(&self, address: IpAddr, port: u16, is_own: bool) -> Result<(), Reason> {
        let host = Host::parse(&address.to_string()).unwrap_or(Host::Address(address));
        if self.denied.iter().any(|pattern| pattern.matches(&host, port, Reach::Name)) {
            return Err(Reason::Denied);
        }
        if !self.local && (is_own || !is_public(address)) {
            return Err(Reason::NotAllowedLocal);
        }
        Ok(())
    }

    /// Whether local addresses may be reached.
    pub fn allows_local(&self) -> bool {
        self.local
    }
}

fn only_reads(wish: &Wish) -> bool {
    // Nobody sees what goes through a tunnel.
    wish.protocol == Protocol::Http && wish.method.as_deref().is_some_and(|method| READING.contains(&method))
}

/// Without looking it up.
fn is_surely_local(host: &Host) -> bool {
    match host {
        Host::Address(address) => !is_public(*address),
        Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
    }
}
