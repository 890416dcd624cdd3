//! Patterns of hosts: `a.test`, `*.a.test`, `**.a.test`, `*`, with or without a port.

use super::host::HostName;

/// Patterns of one kind in a request; more are refused. A safeguard, far from any real use.
const MOST_PATTERNS: usize = 4096;

/// A pattern of hosts, as a rule has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    hosts: Hosts,
    /// With one, it means this port only.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// `*`
    Every,
    /// `a.test`
    Exactly(HostName),
    /// `*.a.test`: every name below it, at any depth. Holds `.a.test`.
    Below(String),
    /// `**.a.test`: it, and what is below. Holds `.a.test`.
    AtAndBelow(String),
    /// Other wildcards.
    Glob(String),
}

/// How far a wildcard inside of a name reaches. What is understood differently by different people is to be understood so
/// that less is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Not over a dot, for what is allowed.
    Label,
    /// Over everything, addresses included, for what is denied.
    Name,
}

/// Why a pattern can't be used. On the wire `-32602`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It makes no sense.
    #[error(
        "the host pattern {pattern:?} can't be used; send a host (`a.test`), what is below it (`*.a.test`, or `**.a.test` \
         with the host itself), an address, or `*`, and a port behind it if you like"
    )]
    Unusable {
        /// The pattern as the client sent it.
        pattern: String,
    },
    /// More patterns than are taken.
    #[error("there are {count} host patterns, and at most {MOST_PATTERNS} are taken; use wildcards")]
    TooMany {
        /// How many patterns there are.
        count: usize,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The text is no host with wildcards: a URL, a network, an empty name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let unusable = || PatternError::Unusable { pattern: text.chars().take(300).collect() };
        let (host, port) = split_port(text).ok_or_else(unusable)?;
        let name = |host: &str| match HostName::parse(host) {
            Ok(HostName::Name(name)) => Ok(format!(".{name}")),
            _ => Err(unusable()),
        };
        let hosts = if host == "*" {
            Hosts::Every
        } else if !host.contains(['*', '?']) {
            Hosts::Exactly(HostName::parse(host).map_err(|_| unusable())?)
        } else if let Some(rest) = host.strip_prefix("**.").filter(|rest| !rest.contains(['*', '?'])) {
            Hosts::AtAndBelow(name(rest)?)
        } else if let Some(rest) = host.strip_prefix("*.").filter(|rest| !rest.contains(['*', '?'])) {
            Hosts::Below(name(rest)?)
        } else {
            Hosts::Glob(glob(host).ok_or_else(unusable)?)
        };
        Ok(Self { hosts, port })
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// As [`Self::parse`], and for too many.
    pub fn parse_all<'t>(texts: impl Iterator<Item = &'t str> + Clone) -> Result<Vec<Self>, PatternError> {
        let count = texts.clone().count();
        if count > MOST_PATTERNS {
            return Err(PatternError::TooMany { count });
        }
        texts.map(Self::parse).collect()
    }

    /// Whether the pattern means this host and port.
    pub fn matches(&self, host: &HostName, port: u16, reach: Reach) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match (&self.hosts, host) {
            (Hosts::Every, _) => true,
            (Hosts::Exactly(exact), host) => exact == host,
            (Hosts::Below(end), HostName::Name(name)) => {
                name.len() > end.len() && name.ends_with(end.as_str())
            }
            (Hosts::AtAndBelow(end), HostName::Name(name)) => {
                name == &end[1..] || (name.len() > end.len() && name.ends_with(end.as_str()))
            }
            (Hosts::Glob(glob), HostName::Name(name)) => {
                glob_matches(glob.as_bytes(), name.as_bytes(), reach)
            }
            // An allowance never means a part of an address. What begins with a wildcard and stands for a part of a name
            // would hit some IPv6 address by chance.
            (Hosts::Glob(glob), HostName::Address(address)) => {
                let may_mean_it = address.is_ipv4() || !glob.starts_with(['*', '?']);
                reach == Reach::Name
                    && may_mean_it
                    && glob_matches(glob.as_bytes(), address.to_string().as_bytes(), reach)
            }
            (Hosts::Below(_) | Hosts::AtAndBelow(_), HostName::Address(_)) => false,
        }
    }
}

/// Splits a port off. An IPv6 address with a port has brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let Some((host, port)) = text.rsplit_once(':') else { return Some((text, None)) };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !bracketed {
        return Some((text, None));
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| digits && *port != 0)?;
    Some((host, Some(port)))
}

/// A name with wildcards in its one spelling, if it is one.
fn glob(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b'?');
    let whole = text.split('.').all(|label| !label.is_empty()) && text.len() <= 253;
    // A name of wildcards alone would match every host.
    let says_something = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (whole && says_something && text.bytes().all(fits)).then(|| text.to_ascii_lowercase())
}

/// Matches in time proportional to both lengths: at a mismatch only the last star is tried further on.
fn glob_matches(glob: &[u8], name: &[u8], reach: Reach) -> bool {
    let fits = |byte: u8| reach == Reach::Name || byte != b'.';
    let (mut at, mut pattern_at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let matched = match (glob.get(pattern_at), name.get(at)) {
            (Some(b'*'), _) => {
                star = Some((pattern_at, at));
                pattern_at += 1;
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(byte)) => fits(*byte),
            (Some(wanted), Some(byte)) => wanted == byte,
            _ => false,
        };
        if matched {
            at += 1;
            pattern_at += 1;
            continue;
        }
        // The last star takes one more byte, if it may.
        match star {
            Some((star_at, from)) if name.get(from).is_some_and(|byte| fits(*byte)) => {
                star = Some((star_at, from + 1));
                pattern_at = star_at + 1;
                at = from + 1;
            }
            _ => return false,
        }
    }
}
