//! Who is at the other end of a connection, as far as its carrier tells.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: Address,
    /// The name of the token that let it in: the subject of a signed one, `capability-token` for the one that all share.
    pub token: Option<Arc<str>>,
}

/// Where a peer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Address {
    /// In this process.
    #[default]
    Here,
    /// The parent, over stdin and stdout.
    Stdio,
    /// Behind a TCP connection.
    Tcp(SocketAddr),
    /// On this machine, over a Unix socket.
    Unix {
        /// The user that the kernel names.
        user: u32,
        /// The process that has connected, as the kernel names it.
        process: Option<i32>,
    },
    /// Behind a rendezvous.
    Relay {
        /// The stream's id, which the rendezvous knows as well; none where it has one stream.
        stream: Option<Arc<str>>,
    },
}

impl Address {
    /// The word of released programs' figures.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Here | Self::Stdio => "stdio",
            Self::Tcp(_) | Self::Unix { .. } => "websocket",
            Self::Relay { .. } => "relay",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("here"),
            Self::Stdio => f.write_str("stdio"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix { user, process: None } => write!(f, "unix:uid={user}"),
            Self::Unix { user, process: Some(process) } => write!(f, "unix:uid={user},pid={process}"),
            Self::Relay { stream: None } => f.write_str("relay"),
            Self::Relay { stream: Some(stream) } => write!(f, "relay:{stream}"),
        }
    }
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        Self { address, token: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_in_one_word() {
        for (address, expected, transport) in [
            (Address::Here, "here", "stdio"),
            (Address::Stdio, "stdio", "stdio"),
            (Address::Tcp(([127, 0, 0, 1], 80).into()), "tcp:127.0.0.1:80", "websocket"),
            (Address::Unix { user: 5, process: Some(7) }, "unix:uid=5,pid=7", "websocket"),
            (Address::Unix { user: 5, process: None }, "unix:uid=5", "websocket"),
            (Address::Relay { stream: Some("S".into()) }, "relay:S", "relay"),
            (Address::Relay { stream: None }, "relay", "relay"),
        ] {
            assert_eq!((address.to_string().as_str(), address.transport()), (expected, transport));
        }
    }
}
