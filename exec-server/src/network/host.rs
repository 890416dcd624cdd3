//! Hosts in one spelling, so that a rule applies however the host is written.

use std::net::{IpAddr, Ipv6Addr};

use super::address::embedded;

/// The longest name that the domain name system has, in bytes. Fixed by the wire.
const LONGEST_NAME: usize = 253;
/// The longest part between two dots, in bytes. Fixed by the wire.
const LONGEST_LABEL: usize = 63;

/// A host, in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    /// Lower case, international names in their ASCII form, without a trailing dot.
    Name(String),
    /// An address. An IPv4 address inside of an IPv6 one is the IPv4 address.
    Address(IpAddr),
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no host name and no address")]
pub struct NoHost {
    /// The text as the program or rule gave it.
    pub text: String,
}

impl HostName {
    /// Reads a name or an address; IPv6 with or without brackets, IPv4 in whatever form URLs take it.
    ///
    /// # Errors
    /// For everything else, ports and users among it.
    pub fn parse(text: &str) -> Result<Self, NoHost> {
        let wrong = || NoHost { text: text.chars().take(LONGEST_NAME).collect() };
        if text.len() > LONGEST_NAME * 3 {
            return Err(wrong());
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self::of_address(address.into()));
        }
        let name = match url::Host::parse(text).map_err(|_| wrong())? {
            url::Host::Ipv4(address) => return Ok(Self::of_address(address.into())),
            url::Host::Ipv6(address) => return Ok(Self::of_address(address.into())),
            url::Host::Domain(name) => name,
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let labels_fit = name.split('.').all(|label| (1..=LONGEST_LABEL).contains(&label.len()));
        if name.len() > LONGEST_NAME || !labels_fit || name.contains('*') {
            return Err(wrong());
        }
        Ok(Self::Name(name.to_owned()))
    }

    fn of_address(address: IpAddr) -> Self {
        Self::Address(embedded(address).map_or(address, IpAddr::V4))
    }

    /// The machine itself, by its name.
    pub fn localhost() -> Self {
        Self::Name("localhost".to_owned())
    }

    /// Whether it is a name that always means the machine itself (RFC 6761, 6.3).
    pub fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }

    /// As it goes into a URL or a `Host` header.
    pub fn in_url(&self) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.to_string(),
        }
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}
