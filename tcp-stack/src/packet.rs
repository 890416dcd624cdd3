//! Looks at a packet before the stack does: which connection it begins.

use std::net::SocketAddr;

use smoltcp::wire::{IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, TcpPacket};

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    /// The program's end.
    pub(crate) program: SocketAddr,
    /// Where the program wants to go.
    pub(crate) target: SocketAddr,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first one of a TCP connection.
    Begins(Ends),
    /// Another one of TCP, or one that the stack has an answer for.
    Other,
    /// One that nobody answers: broken, or the kernel's own search for neighbours.
    Noise,
}

/// Tells what a packet is, without trusting it.
pub(crate) fn kind(packet: &[u8]) -> Kind {
    if packet.is_empty() {
        return Kind::Noise;
    }
    let kind = match IpVersion::of_packet(packet) {
        Ok(IpVersion::Ipv4) => v4(packet),
        Ok(IpVersion::Ipv6) => v6(packet),
        Err(_) => None,
    };
    kind.unwrap_or(Kind::Noise)
}

fn v4(packet: &[u8]) -> Option<Kind> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    match ip.next_header() {
        // A first fragment would say the same; but the device's packets are as long as can be, so there are none.
        IpProtocol::Tcp if !ip.more_frags() && ip.frag_offset() == 0 => {
            tcp(ip.payload(), |port| (ip.src_addr(), port).into(), |port| (ip.dst_addr(), port).into())
        }
        IpProtocol::Udp => Some(Kind::Other),
        _ => None,
    }
}

fn v6(packet: &[u8]) -> Option<Kind> {
    let ip = Ipv6Packet::new_checked(packet).ok()?;
    match ip.next_header() {
        IpProtocol::Tcp => {
            tcp(ip.payload(), |port| (ip.src_addr(), port).into(), |port| (ip.dst_addr(), port).into())
        }
        IpProtocol::Udp => Some(Kind::Other),
        _ => None,
    }
}

fn tcp(
    bytes: &[u8],
    source: impl FnOnce(u16) -> SocketAddr,
    destination: impl FnOnce(u16) -> SocketAddr,
) -> Option<Kind> {
    let tcp = TcpPacket::new_checked(bytes).ok()?;
    if tcp.syn() && !tcp.ack() && !tcp.rst() && tcp.src_port() != 0 && tcp.dst_port() != 0 {
        let (program, target) = (source(tcp.src_port()), destination(tcp.dst_port()));
        return Some(Kind::Begins(Ends { program, target }));
    }
    Some(Kind::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with this protocol and TCP flags.
    fn packet(protocol: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 18, 0, 1];
        bytes.extend([0x9c, 0x40, 1, 187, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 255, 255, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn only_a_whole_first_packet_begins_a_connection() {
        let ends =
            Ends { program: "192.0.2.1:40000".parse().unwrap(), target: "198.18.0.1:443".parse().unwrap() };
        assert_eq!(kind(&packet(6, 2)), Kind::Begins(ends));
        for flags in [0, 1, 4, 6, 16, 18] {
            assert_eq!(kind(&packet(6, flags)), Kind::Other, "{flags}");
        }
        assert_eq!(kind(&packet(17, 2)), Kind::Other);
        assert_eq!(kind(&packet(1, 2)), Kind::Noise);
        let whole = packet(6, 2);
        for length in 0..whole.len() {
            assert_eq!(kind(&whole[..length]), Kind::Noise, "{length}");
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        // Every byte of a good packet changed in every way.
        for (at, _) in packet(6, 2).iter().enumerate() {
            for value in 0..=255 {
                let mut bytes = packet(6, 2);
                bytes[at] = value;
                let _ = kind(&bytes);
            }
        }
    }
}
