//! Attempts on a network device that a program's connections come out of (21.3): its settings, and ways around who judges.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use libc::c_int;

use super::{Outcome, Suite, check, fd, open};
use crate::sandbox::attacker;

/// Those with a device.
const WITH_DEVICE: &[&str] = &["transparent"];
/// How long an answer may take that must not come.
const PATIENCE: Duration = Duration::from_millis(500);

/// Changing the device, or making another.
pub(super) fn settings(suite: &mut Suite) {
    suite.add("another network device", WITH_DEVICE, false, || device(c"other"));
    suite.add("the network device itself", WITH_DEVICE, false, || device(c"codextun"));
    for (name, command) in [
        ("address", libc::SIOCSIFADDR),
        ("mask", libc::SIOCSIFNETMASK),
        ("flags", libc::SIOCSIFFLAGS),
        ("length", libc::SIOCSIFMTU),
        ("name", libc::SIOCSIFNAME),
    ] {
        suite.add(format!("the network device's {name}"), WITH_DEVICE, false, move || {
            let socket = fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
            let mut request = named(c"codextun");
            check(unsafe { libc::ioctl(socket, command, &raw mut request) }).map(drop)
        });
    }
    suite.add("whom names are asked of", WITH_DEVICE, false, || {
        open("/etc/resolv.conf", libc::O_WRONLY | libc::O_APPEND).map(drop)
    });
}

fn named(name: &std::ffi::CStr) -> libc::ifreq {
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    request
}

fn device(name: &std::ffi::CStr) -> Outcome {
    let device = open("/dev/net/tun", libc::O_RDWR)?;
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    check(unsafe { libc::ioctl(device, libc::TUNSETIFF, &raw mut request) }).map(drop)
}

/// Reaching what no rule allows.
pub(super) fn ways_out(suite: &mut Suite) {
    let port = attacker::outside_port();
    let mut targets = [
        "198.18.0.1",
        "198.18.0.0",
        "198.19.255.255",
        "fdc0:de00::1",
        "192.0.2.2",
        "2001:db8::2",
        "::ffff:1.1.1.1",
        "64:ff9b::7f00:1",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.169.254",
        "::",
    ]
    .map(|text| text.parse::<IpAddr>().expect("an address"))
    .to_vec();
    targets.extend(attacker::outside_address());
    for target in targets {
        suite.add(format!("connect out to {target}"), WITH_DEVICE, false, move || {
            TcpStream::connect_timeout(&(target, port).into(), PATIENCE).map(drop).map_err(of)
        });
        suite.add(format!("an answer from {target}"), WITH_DEVICE, false, move || {
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).map_err(of)?;
            socket.set_read_timeout(Some(PATIENCE)).map_err(of)?;
            for port in [port, 53] {
                let _ = socket
                    .send_to(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01", (target, port));
            }
            socket.recv(&mut [0; 512]).map(drop).map_err(of)
        });
    }
    for source in ["198.18.0.1:0", "127.0.0.1:0", "10.9.8.7:0", "192.0.2.2:0"] {
        let (source, target) =
            (source.parse::<SocketAddr>().expect("an address"), attacker::outside_address());
        suite.add(format!("connect from {source}"), WITH_DEVICE, false, move || {
            let target = target.filter(IpAddr::is_ipv4).ok_or(0)?;
            forged(source, (target, port).into())
        });
    }
    suite.add("packets of one's own making", WITH_DEVICE, false, || {
        let socket = fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
        option(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    });
}

fn of(error: std::io::Error) -> c_int {
    error.raw_os_error().unwrap_or(0)
}

fn option(socket: c_int, level: c_int, name: c_int) -> Outcome {
    let on: c_int = 1;
    let size = size_of::<c_int>() as libc::socklen_t;
    check(unsafe { libc::setsockopt(socket, level, name, (&raw const on).cast(), size) }).map(drop)
}

/// Connects from an address that is not the program's, as everybody may try.
fn forged(source: SocketAddr, target: SocketAddr) -> Outcome {
    use std::os::fd::{FromRawFd, OwnedFd};
    let socket = fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) })?;
    option(socket, libc::IPPROTO_IP, libc::IP_FREEBIND)?;
    let wait = libc::timeval { tv_sec: 0, tv_usec: PATIENCE.subsec_micros().into() };
    let size = size_of::<libc::timeval>() as libc::socklen_t;
    check(unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const wait).cast(), size)
    })?;
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    rustix::net::bind(&socket, &source).map_err(|error| error.raw_os_error())?;
    rustix::net::connect(&socket, &target).map_err(|error| error.raw_os_error())
}
