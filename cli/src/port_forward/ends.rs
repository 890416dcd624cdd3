//! The two ends of a forward: here and at the exec-server, either of which may be the one that is listened on.

use std::net::SocketAddr;
use std::time::Duration;

use codex_exec_server::client::{ClientError, JoinError, RemoteListener, RemoteStream};
use codex_exec_server::protocol::ErrorCode;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::hub::Hub;
use super::words::Place;
use crate::reach::Unreached;

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Where connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From here to the server's machine.
    Forward,
    /// From the server's machine to here.
    Reverse,
}

/// A connection at one end.
pub(super) enum Connection {
    Here(TcpStream),
    There(RemoteStream),
}

/// A port at one end.
pub(super) enum Listener {
    Here(tokio::net::TcpListener),
    There(RemoteListener),
}

/// Why something did not work at one end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody is there: the port has to be closed until somebody is.
    Nobody(String),
    /// Something else.
    Other(String),
    /// The connection to the server was lost.
    Lost,
    /// No further attempt can help.
    Final(Unreached),
}

impl From<Unreached> for Trouble {
    fn from(unreached: Unreached) -> Self {
        Self::Final(unreached)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rpc(error) if error.code == ErrorCode::NOT_FOUND => Self::Nobody(error.message),
            ClientError::Rpc(error) => Self::Other(error.message),
            ClientError::Usage(sentence) => {
                Self::Final(Unreached { code: crate::codes::FAILURE, sentence: Some(sentence), again: false })
            }
            _ => Self::Lost,
        }
    }
}

impl Way {
    /// Connects to where connections lead.
    pub(super) async fn connect(self, hub: &Hub, target: &Place) -> Result<Connection, Trouble> {
        match self {
            Self::Forward => {
                let client = hub.client().await?;
                Ok(Connection::There(client.tcp_connect(&target.host, target.port).await?))
            }
            Self::Reverse => {
                let connected = TcpStream::connect((target.host.as_str(), target.port)).await;
                let stream = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
                stream
                    .map(Connection::Here)
                    .map_err(|error| Trouble::Nobody(format!("can't connect to {target}: {error}")))
            }
        }
    }

    /// Begins to listen where connections come from.
    pub(super) async fn listen(self, hub: &Hub, place: &Place) -> Result<(Listener, Place), Trouble> {
        let other = |error: std::io::Error| Trouble::Other(format!("can't listen on {place}: {error}"));
        match self {
            Self::Forward => {
                let listener = listen_here(place).await.map_err(other)?;
                let port = listener.local_addr().map_err(other)?.port();
                Ok((Listener::Here(listener), Place { host: place.host.clone(), port }))
            }
            Self::Reverse => {
                let listener = hub.client().await?.tcp_listen(Some(&place.host), place.port).await?;
                let port =
                    listener.address.parse::<SocketAddr>().map_or(place.port, |address| address.port());
                Ok((Listener::There(listener), Place { host: place.host.clone(), port }))
            }
        }
    }
}

async fn listen_here(place: &Place) -> std::io::Result<tokio::net::TcpListener> {
    let mut failed = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in lookup_host((place.host.as_str(), place.port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl Listener {
    /// The next connection.
    pub(super) async fn accept(&self) -> Result<Connection, Trouble> {
        match self {
            Self::Here(listener) => {
                let accepted = listener.accept().await;
                let stream = accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream));
                stream.map(Connection::Here).map_err(|error| Trouble::Other(error.to_string()))
            }
            Self::There(listener) => Ok(Connection::There(listener.accept().await?)),
        }
    }
}

impl Connection {
    /// Moves bytes between two ends, one of each kind, until both are done. Whoever is left when one breaks hears a reset.
    pub(super) async fn join(self, other: Self) -> Result<(), JoinError> {
        let (mut here, there) = match (self, other) {
            (Self::Here(here), Self::There(there)) | (Self::There(there), Self::Here(here)) => (here, there),
            // Each forward has one end of each kind.
            _ => return Ok(()),
        };
        let (reader, writer) = here.split();
        let joined = there.join(reader, writer).await;
        if joined.is_err() {
            let _ = set_socket_linger(&here, Some(Duration::ZERO));
        }
        joined
    }

    /// Ends it with a reset: it was accepted, and leads nowhere.
    pub(super) fn reset(self) {
        if let Self::Here(here) = self {
            let _ = set_socket_linger(&here, Some(Duration::ZERO));
        }
    }
}
