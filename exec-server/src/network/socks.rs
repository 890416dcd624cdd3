//! SOCKS5 as far as a filtering proxy needs it (RFC 1928): no authentication, connections and datagrams.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::host::HostName;
use super::judge::{Kind, ProxyRefusal};

/// The first byte of every message.
pub(super) const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NONE_OF_THESE: u8 = 0xff;
const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
/// The kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Where a program wants to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) host: HostName,
    pub(super) port: u16,
}

/// What a program asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A connection.
    Connection(Target),
    /// To send and receive datagrams while this connection lasts.
    Datagrams,
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

impl From<&ProxyRefusal> for Reply {
    fn from(refusal: &ProxyRefusal) -> Self {
        match refusal.kind {
            Kind::Forbidden => Self::NotAllowed,
            Kind::NotFound => Self::HostUnreachable,
            Kind::Unreachable => Self::Refused,
            Kind::TimedOut => Self::TimedOut,
        }
    }
}

/// Greets, and reads what the program asks for. Errors have been answered where SOCKS has an answer.
///
/// # Errors
/// [`ErrorKind::InvalidData`] for what is no SOCKS5, [`ErrorKind::Unsupported`] for what of it isn't done here.
pub(super) async fn receive(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Asked> {
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
        IPV4 => HostName::parse(&Ipv4Addr::from_octets(bytes(stream).await?).to_string()),
        NAME => {
            let [length] = bytes(stream).await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            HostName::parse(&String::from_utf8_lossy(&name))
        }
        IPV6 => HostName::parse(&Ipv6Addr::from_octets(bytes(stream).await?).to_string()),
        _ => return give_up(stream, Reply::NoSuchAddress).await,
    };
    let port = u16::from_be_bytes(bytes(stream).await?);
    match (command, host) {
        (CONNECT, Ok(host)) if port != 0 => Ok(Asked::Connection(Target { host, port })),
        // Where it will send from, of which most programs say nothing.
        (UDP_ASSOCIATE, _) => Ok(Asked::Datagrams),
        (CONNECT, _) => give_up(stream, Reply::NoSuchAddress).await,
        _ => give_up(stream, Reply::NoSuchCommand).await,
    }
}

/// Answers the request. It does not tell the address that the proxy connects from.
pub(super) async fn answer(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    stream.flush().await
}

/// Tells where to send datagrams to.
pub(super) async fn answer_datagrams(
    stream: &mut (impl AsyncWrite + Unpin),
    relay: SocketAddr,
) -> io::Result<()> {
    let mut message = vec![VERSION, Reply::Connected as u8, 0];
    put_address(&mut message, relay);
    stream.write_all(&message).await?;
    stream.flush().await
}

/// Where a datagram is to go, and what it says. None for one in pieces, and for what is no such datagram.
pub(super) fn unwrap(datagram: &[u8]) -> Option<(Target, &[u8])> {
    let [0, 0, 0, kind, rest @ ..] = datagram else { return None };
    let (host, rest) = match *kind {
        IPV4 => {
            let (address, rest) = rest.split_first_chunk()?;
            (Ipv4Addr::from_octets(*address).to_string(), rest)
        }
        IPV6 => {
            let (address, rest) = rest.split_first_chunk()?;
            (Ipv6Addr::from_octets(*address).to_string(), rest)
        }
        NAME => {
            let (length, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            (std::str::from_utf8(name).ok()?.to_owned(), rest)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk()?;
    let (host, port) = (HostName::parse(&host).ok()?, u16::from_be_bytes(*port));
    (port != 0).then_some((Target { host, port }, payload))
}

/// The head of a datagram from this address.
pub(super) fn head_of(from: SocketAddr) -> Vec<u8> {
    let mut head = vec![0, 0, 0];
    put_address(&mut head, from);
    head
}

fn put_address(message: &mut Vec<u8>, address: SocketAddr) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            message.push(IPV4);
            message.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            message.push(IPV6);
            message.extend(ip.octets());
        }
    }
    message.extend(address.port().to_be_bytes());
}

pub(super) async fn give_up<T>(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<T> {
    answer(stream, reply).await?;
    Err(ErrorKind::Unsupported.into())
}

async fn bytes<const COUNT: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is made of these bytes, and what is said.
    fn hear(bytes: &[u8]) -> (io::Result<Asked>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut stream = tokio::io::join(bytes, Vec::new());
            let heard = receive(&mut stream).await;
            (heard, stream.into_inner().1)
        })
    }

    fn asked(command: u8, address: &[u8]) -> Vec<u8> {
        [&[5, 2, 2, 0, 5, command, 0], address].concat()
    }

    #[test]
    fn each_kind_of_address_is_read_and_everything_else_is_answered() {
        for (address, host) in [
            (&[1, 1, 2, 3, 4, 0, 80][..], "1.2.3.4"),
            (&[3, 6, b'A', b'.', b't', b'e', b's', b't', 0, 80], "a.test"),
            (&[3, 3, b'0', b'x', b'1', 0, 80], "0.0.0.1"),
            (&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4, 0, 80], "1.2.3.4"),
        ] {
            let (target, said) = hear(&asked(1, address));
            let wanted = Target { host: HostName::parse(host).unwrap(), port: 80 };
            assert_eq!((target.unwrap(), &said[..]), (Asked::Connection(wanted.clone()), &[5, 0][..]));
            let (asked, said) = hear(&asked(3, address));
            assert_eq!((asked.unwrap(), &said[..]), (Asked::Datagrams, &[5, 0][..]));
            let datagram = [&[0, 0, 0], address, b"ping"].concat();
            assert_eq!(unwrap(&datagram), Some((wanted, &b"ping"[..])));
            for length in 0..datagram.len() - 4 {
                assert_eq!(unwrap(&datagram[..length]), None, "cut off at {length}");
            }
        }
        for (bytes, reply) in [
            (asked(2, &[1, 1, 2, 3, 4, 0, 80]), 7),
            (asked(4, &[1, 1, 2, 3, 4, 0, 80]), 7),
            (asked(1, &[1, 1, 2, 3, 4, 0, 0]), 8),
            (asked(1, &[2, 1, 2, 3, 4, 0, 80]), 8),
            (asked(1, &[3, 0, 0, 80]), 8),
            (asked(1, &[3, 2, 0xff, b'a', 0, 80]), 8),
        ] {
            let (target, said) = hear(&bytes);
            assert!(target.is_err(), "{bytes:?}");
            assert_eq!(said.get(..4), Some(&[5, 0, 5, reply][..]), "{bytes:?}");
        }
        let (target, said) = hear(&[5, 1, 2]);
        assert!(target.is_err() && said == [5, 0xff], "a password can't be asked for");
        for bytes in
            [&b""[..], b"GET / HTTP/1.1", &[4, 1, 0, 80], &[5, 1, 0, 4, 1, 0, 1], &asked(1, &[1, 1, 2])]
        {
            assert!(hear(bytes).0.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn datagrams_in_pieces_or_to_nowhere_are_none_and_answers_have_the_senders_address() {
        for datagram in [
            &[0, 0, 1, 1, 1, 2, 3, 4, 0, 80, 9][..],
            &[0, 1, 0, 1, 1, 2, 3, 4, 0, 80, 9],
            &[0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 9],
            &[0, 0, 0, 2, 1, 2, 3, 4, 0, 80, 9],
            &[0, 0, 0, 3, 0, 0, 80, 9],
            &[0, 0, 0, 3, 1, 0xff, 0, 80, 9],
        ] {
            assert_eq!(unwrap(datagram), None, "{datagram:?}");
        }
        assert_eq!(head_of("1.2.3.4:80".parse().unwrap()), [0, 0, 0, 1, 1, 2, 3, 4, 0, 80]);
        assert_eq!(head_of("[::ffff:1.2.3.4]:80".parse().unwrap()), [0, 0, 0, 1, 1, 2, 3, 4, 0, 80]);
        let six = [&[0, 0, 0, 4][..], &[0; 15], &[1, 0, 80]].concat();
        assert_eq!(head_of("[::1]:80".parse().unwrap()), six);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_as_far_as_needed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for bytes in [bytes.clone(), asked(1, &bytes)] {
                if let (Ok(asked), said) = hear(&bytes) {
                    if let Asked::Connection(target) = asked {
                        prop_assert!(target.port != 0);
                    }
                    prop_assert_eq!(said, [5, 0]);
                }
            }
            if let Some((target, payload)) = unwrap(&bytes) {
                prop_assert!(target.port != 0 && bytes.ends_with(payload));
            }
        }
    }
}
