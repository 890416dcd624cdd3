//! SOCKS5 as far as a filtering proxy needs it (RFC 1928): no authentication, connections only.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::host::Host;
use super::judge::{Kind, Refusal};

/// The first byte of every message.
pub(super) const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NONE_OF_THESE: u8 = 0xff;
const CONNECT: u8 = 1;

/// Where a program wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// What a program is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Connected = 0,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    TimedOut = 6,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

impl From<&Refusal> for Reply {
    fn from(refusal: &Refusal) -> Self {
        match refusal.kind {
            Kind::Forbidden => Self::NotAllowed,
            Kind::NotFound => Self::HostUnreachable,
            Kind::Unreachable => Self::Refused,
            Kind::TimedOut => Self::TimedOut,
        }
    }
}

/// Greets, and reads where the program wants to go. Errors were answered, as far as there is an answer.
///
/// # Errors
/// [`ErrorKind::InvalidData`] for what is no SOCKS5, [`ErrorKind::Unsupported`] for what of it isn't done here.
pub(super) async fn receive(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Target> {
    let [version, count] = bytes(stream).await?;
    let mut offered = vec![0; usize::from(count)];
    stream.read_exact(&mut offered).await?;
    if version != VERSION {
        return Err(ErrorKind::InvalidData.into());
    }
    let takes_none = offered.contains(&NO_AUTHENTICATION);
    let chosen = if takes_none { NO_AUTHENTICATION } else { NONE_OF_THESE };
    stream.write_all(&[VERSION, chosen]).await?;
    if !takes_none {
        return Err(ErrorKind::Unsupported.into());
    }
    let [version, command, reserved, kind] = bytes(stream).await?;
    if version != VERSION || reserved != 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    let host = match kind {
        1 => Host::parse(&Ipv4Addr::from_octets(bytes(stream).await?).to_string()),
        3 => {
            let [length] = bytes(stream).await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            Host::parse(&String::from_utf8_lossy(&name))
        }
        4 => Host::parse(&Ipv6Addr::from_octets(bytes(stream).await?).to_string()),
        _ => return give_up(stream, Reply::NoSuchAddress).await,
    };
    let port = u16::from_be_bytes(bytes(stream).await?);
    match (command, host) {
        (CONNECT, Ok(host)) if port != 0 => Ok(Target { host, port }),
        (CONNECT, _) => give_up(stream, Reply::NoSuchAddress).await,
        _ => give_up(stream, Reply::NoSuchCommand).await,
    }
}

/// Answers the request. The address that a proxy connects from is nobody's business.
pub(super) async fn answer(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    stream.flush().await
}

async fn give_up(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<Target> {
    answer(stream, reply).await?;
    Err(ErrorKind::Unsupported.into())
}

async fn bytes<const COUNT: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
