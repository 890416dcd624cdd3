//! Attempts on the network: sockets of every family, and the machine's own network from one's own.

use std::path::Path;

use libc::c_int;

use super::{
    APART, FILES, OFFLINE, Outcome, PROFILES, SILENT, Suite, check, errno, fd, has_own_pids, open, parent,
};
use crate::sandbox::attacker;

/// Every family of sockets, and what goes through them.
pub(super) fn sockets(suite: &mut Suite, ground: &Path) {
    let make =
        |family: c_int, kind: c_int, protocol: c_int| fd(unsafe { libc::socket(family, kind, protocol) });
    suite.add("socket", OFFLINE, true, move || make(libc::AF_INET, libc::SOCK_STREAM, 0).map(drop));
    for family in 0..47 {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            if is_answered_for(family, kind) {
                continue;
            }
            let internet = [libc::AF_INET, libc::AF_INET6].contains(&family)
                && [libc::SOCK_STREAM, libc::SOCK_DGRAM].contains(&kind);
            let stopped_by = if internet { OFFLINE } else { APART };
            suite.add(format!("socket {family} {kind}"), stopped_by, false, move || {
                make(family, kind, 0).map(drop)
            });
        }
    }
    let families = [
        libc::AF_UNIX,
        libc::AF_PACKET,
        libc::AF_VSOCK,
        libc::AF_ALG,
        libc::AF_KEY,
        libc::AF_BLUETOOTH,
        43,
        44,
    ];
    for family in families {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            if is_answered_for(family, kind) {
                continue;
            }
            suite.add(
                format!("local socket {family} {kind}"),
                &["online", "filtered", "transparent"],
                false,
                move || make(family, kind, 0).map(drop),
            );
        }
    }
    suite.add("netlink 0", APART, false, move || make(libc::AF_NETLINK, libc::SOCK_RAW, 0).map(drop));
    for protocol in 1..22 {
        suite.add(
            format!("netlink {protocol}"),
            &["online", "read", "external", "filtered", "transparent"],
            false,
            move || make(libc::AF_NETLINK, libc::SOCK_RAW, protocol).map(drop),
        );
    }
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_TIPC, libc::AF_UNIX] {
        for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_RDM, 10] {
            suite.add(format!("socket pair {family} {kind}"), &PROFILES, false, move || {
                let mut pair = [0; 2];
                check(unsafe { libc::socketpair(family, kind, 0, pair.as_mut_ptr()) }).map(drop)
            });
        }
    }
    suite.add("raw socket", &["online", "read", "filtered", "transparent"], false, move || {
        make(libc::AF_INET, libc::SOCK_RAW, 1).map(drop)
    });
    for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
        suite.add(format!("local socket {kind} where nobody answers for it"), &PROFILES, false, move || {
            if has_own_pids() { Err(0) } else { make(libc::AF_UNIX, kind, 0).map(drop) }
        });
    }
    let at = ground.join("o/named");
    suite.add("bind a local socket outside", FILES, true, move || {
        std::os::unix::net::UnixListener::bind(&at).map(drop).map_err(|_| errno())
    });
    suite.add("bind an abstract socket", &PROFILES, false, || {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name("codex-evil").map_err(|_| 0)?;
        std::os::unix::net::UnixListener::bind_addr(&address).map(drop).map_err(|_| errno())
    });
    suite.add("connect to the internet's own address", OFFLINE, false, || {
        std::net::UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|_| errno())
    });
}

/// Kinds that there are where the first process of a PID namespace answers for them (`named.rs`).
fn is_answered_for(family: c_int, kind: c_int) -> bool {
    family == libc::AF_UNIX && [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].contains(&kind)
}

/// Reaching the machine's network from one's own.
pub(super) fn networks(suite: &mut Suite) {
    use std::net::{IpAddr, TcpStream, UdpSocket};
    let port = attacker::outside_port();
    let mut addresses: Vec<IpAddr> = ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::ffff:127.0.0.1"]
        .map(|address| address.parse().expect("an address"))
        .to_vec();
    addresses.extend(attacker::outside_address());
    for address in addresses {
        suite.add(format!("connect to {address}"), APART, true, move || {
            TcpStream::connect((address, port)).map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
        });
        suite.add(format!("send to {address}"), SILENT, false, move || {
            let from = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let reach = || {
                let socket = UdpSocket::bind(from)?;
                socket.connect((address, port))?;
                // The second one tells what became of the first.
                socket.send(b"evil")?;
                socket.send(b"evil")
            };
            reach().map(drop).map_err(|error: std::io::Error| error.raw_os_error().unwrap_or(0))
        });
    }
    for host in ["localhost", "127.0.0.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::]"] {
        suite.add(
            format!("the server at {host}, through the proxy"),
            &["filtered", "transparent"],
            false,
            move || server_through_proxy(host),
        );
    }
    for (name, kind, protocol) in [
        ("ping", libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        ("SCTP", libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ("UDP-Lite", libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        ("L2TP", libc::SOCK_DGRAM, 115),
        ("multipath", libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        ("SMC", libc::SOCK_STREAM, 256),
    ] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            suite.add(format!("{name} {family}"), APART, false, move || {
                fd(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }).map(drop)
            });
        }
    }
    suite.add("enter the server's network", APART, false, || {
        let network = open(format!("/proc/{}/ns/net", parent()), libc::O_RDONLY)?;
        check(unsafe { libc::setns(network, libc::CLONE_NEWNET) }).map(drop)
    });
    suite.add("have an administrator's network", APART, false, || {
        let socket = fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // "lo", up as it is.
        request.ifr_name[0] = 108;
        request.ifr_name[1] = 111;
        request.ifr_ifru.ifru_flags = 1;
        check(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request) }).map(drop)
    });
    suite.add("have a socket of the server's", APART, false, || {
        for number in 3..1024 {
            let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
            if link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:")) {
                return Ok(());
            }
        }
        Err(0)
    });
}

/// Only an answer that refuses holds.
fn server_through_proxy(host: &str) -> Outcome {
    use std::io::{Read, Write};
    let (Ok(proxy), Ok(port)) = (std::env::var("HTTP_PROXY"), std::env::var(attacker::SERVER)) else {
        return Ok(());
    };
    let ask = || {
        let mut stream = std::net::TcpStream::connect(proxy.trim_start_matches("http://"))?;
        write!(stream, "CONNECT {host}:{port} HTTP/1.1\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    match ask() {
        Ok(answer) if answer == *b"HTTP/1.1 403" => Err(403),
        Ok::<_, std::io::Error>(_) | Err(_) => Ok(()),
    }
}
