//! Where to listen: `ws://IP:PORT`, `unix://PATH` or `stdio` (section 2.1 and 3).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where an exec-server is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP socket; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket file, absolute or relative to the working directory.
    Unix(PathBuf),
    /// This process's stdin and stdout.
    Stdio,
    /// The socket that whoever started this process listens on, and has handed over (sd_listen_fds(3)).
    Inherited,
}

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A name where an IP address belongs.
    #[error("`{0}` does not hold an IP address; host names are not looked up: write ws://127.0.0.1:0")]
    NotAnIp(String),
    /// No port, or one out of range.
    #[error("`{0}` has no port from 0 to 65535; add one (0 lets the system choose): ws://IP:PORT")]
    NoPort(String),
    /// A path, query or fragment.
    #[error("`{0}` has a path; the server listens at the root: write ws://IP:PORT and nothing behind it")]
    HasPath(String),
    /// `wss://`.
    #[error("`{0}` asks for TLS, which this server does not speak: listen on ws:// behind a TLS proxy")]
    Tls(String),
    /// `unix://` and nothing more.
    #[error("`{0}` names no socket file: write unix://PATH")]
    NoSocketPath(String),
    /// Any other scheme, or none.
    #[error("`{0}` is no address to listen on: write ws://IP:PORT, unix://PATH, stdio or fd://")]
    UnknownScheme(String),
}

impl ListenAddress {
    /// Reads `ws://IP:PORT`, `unix://PATH`, `stdio`, `stdio://` or `fd://`.
    ///
    /// # Errors
    /// Host names, `wss://`, other schemes, a path and a missing port are refused, each with its remedy.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let whole = || text.to_owned();
        if text == "stdio" || text == "stdio://" {
            return Ok(Self::Stdio);
        }
        if text == "fd://" {
            return Ok(Self::Inherited);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            if path.is_empty() || path.contains('\0') {
                return Err(AddressError::NoSocketPath(whole()));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if text.starts_with("wss://") {
            return Err(AddressError::Tls(whole()));
        }
        let Some(host) = text.strip_prefix("ws://") else {
            return Err(AddressError::UnknownScheme(whole()));
        };
        if let Ok(address) = host.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address));
        }
        let bare = host.split(['/', '?', '#']).next().unwrap_or_default();
        let port_is_bad = || bare.rsplit_once(':').is_some_and(|(ip, _)| is_ip(ip));
        if bare != host && bare.parse::<SocketAddr>().is_ok() {
            return Err(AddressError::HasPath(whole()));
        }
        if is_ip(bare) || port_is_bad() {
            return Err(AddressError::NoPort(whole()));
        }
        Err(AddressError::NotAnIp(whole()))
    }

    /// Whether only this machine can reach it; Unix sockets and stdio count as such, and one that was handed over does not until
    /// it is known what it is.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) | Self::Stdio => true,
            Self::Inherited => false,
        }
    }
}

fn is_ip(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    inner.parse::<IpAddr>().is_ok()
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "ws://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Stdio => f.write_str("stdio"),
            Self::Inherited => f.write_str("fd://"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_their_remedy() {
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().unwrap());
        for (text, expected) in [
            ("ws://127.0.0.1:0", tcp("127.0.0.1:0")),
            ("ws://[::1]:0", tcp("[::1]:0")),
            ("ws://0.0.0.0:8080", tcp("0.0.0.0:8080")),
            ("stdio", ListenAddress::Stdio),
            ("stdio://", ListenAddress::Stdio),
            ("unix:///run/x.sock", ListenAddress::Unix("/run/x.sock".into())),
            ("unix://x.sock", ListenAddress::Unix("x.sock".into())),
        ] {
            assert_eq!(ListenAddress::parse(text), Ok(expected), "{text}");
        }
        for (text, part) in [
            ("ws://localhost:80", "IP address"),
            ("ws://127.0.0.1", "no port"),
            ("ws://127.0.0.1:", "no port"),
            ("ws://[::1]", "no port"),
            ("ws://127.0.0.1/", "no port"),
            ("ws://127.0.0.1:1/", "path"),
            ("ws://127.0.0.1:1/x?y", "path"),
            ("ws://127.0.0.1:99999", "no port"),
            ("ws://[::1]:x", "no port"),
            ("ws://", "IP address"),
            ("wss://127.0.0.1:1", "TLS"),
            ("http://127.0.0.1:1", "no address"),
            ("127.0.0.1:1", "no address"),
            ("unix://", "no socket file"),
            ("", "no address"),
        ] {
            let error = ListenAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (text, loopback) in [
            ("ws://127.0.0.1:0", true),
            ("ws://127.9.9.9:0", true),
            ("ws://[::1]:0", true),
            ("ws://[::ffff:127.0.0.1]:0", true),
            ("ws://0.0.0.0:0", false),
            ("ws://[::]:0", false),
            ("ws://10.0.0.1:0", false),
            ("unix://x", true),
            ("stdio", true),
        ] {
            assert_eq!(ListenAddress::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
