//! Makes the device and the sockets in the network namespace that this process is in, while it may.

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, socket_with};

use crate::device::LONGEST_PACKET;
use crate::link::Given;

/// The device's name, as released servers call it.
const NAME: &str = "codextun";
/// Where devices of this kind are made.
pub const DEVICE_AT: &str = "/dev/net/tun";
/// The program's own addresses on it, of ranges for documentation, which are nobody's (RFC 5737, RFC 3849).
const OWN: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 32),
    (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 128),
];
const DNS_PORT: u16 = 53;

/// Makes a device that everything but loopback leads to, and sockets that names are asked for on at this address of
/// loopback, which is up. Takes the right to administer the namespace's network.
///
/// # Errors
/// The system's, with what failed.
pub fn make(resolver: Ipv4Addr) -> Result<Given, (&'static str, io::Error)> {
    let failed = |what| move |error| (what, error);
    let device = open().map_err(failed("make a TUN device"))?;
    configure().map_err(failed("set up its TUN device"))?;
    let at = (resolver, DNS_PORT);
    let datagrams = UdpSocket::bind(at).map_err(failed("be its name server"))?.into();
    let listener = TcpListener::bind(at).map_err(failed("be its name server"))?.into();
    Ok(Given { device, datagrams, listener })
}

fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = rustix::fs::openat(CWD, Path::new(DEVICE_AT), flags, Mode::empty())?;
    // SAFETY: `ifreq` is plain data, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = libc::c_char::try_from(from).unwrap_or_default();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap_or_default();
    // SAFETY: the call reads and writes an `ifreq`, which is alive.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
}

fn configure() -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let index = netdevice::name_to_index(&socket, NAME)?;
    request(&socket, &up(index))?;
    for (address, length) in OWN {
        let configured = request(&socket, &own_address(index, address, length))
            .and_then(|()| request(&socket, &way(index, address)));
        match configured {
            // A machine may have no IPv6; then programs have none either.
            Err(_) if address.is_ipv6() => {}
            configured => configured?,
        }
    }
    Ok(())
}

/// A message of rtnetlink(7), without its length.
struct Message {
    kind: u16,
    body: Vec<u8>,
}

impl Message {
    fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        /// What precedes each attribute.
        const HEAD: usize = 4;
        let length = u16::try_from(HEAD + value.len()).unwrap_or(u16::MAX);
        self.body.extend(length.to_ne_bytes());
        self.body.extend(attribute.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(HEAD), 0);
        self
    }
}

fn up(index: u32) -> Message {
    let up = libc::IFF_UP.to_ne_bytes();
    // Family, kind, index, flags, and which of them are meant.
    let body = [&[0; 4][..], &index.to_ne_bytes(), &up, &up].concat();
    let longest = u32::try_from(LONGEST_PACKET).unwrap_or(u32::MAX);
    Message { kind: libc::RTM_NEWLINK, body }.with(libc::IFLA_MTU, &longest.to_ne_bytes())
}

fn own_address(index: u32, address: IpAddr, length: u8) -> Message {
    /// Nobody else could have it.
    const NO_DETECTION: u8 = 2;
    let body = [&[family(address), length, NO_DETECTION, 0][..], &index.to_ne_bytes()].concat();
    let address = octets(address);
    Message { kind: libc::RTM_NEWADDR, body }
        .with(libc::IFA_LOCAL, &address)
        .with(libc::IFA_ADDRESS, &address)
}

/// The way to everything.
fn way(index: u32, address: IpAddr) -> Message {
    let kind = [libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_LINK, libc::RTN_UNICAST];
    let body = [&[family(address), 0, 0, 0][..], &kind, &[0; 4]].concat();
    Message { kind: libc::RTM_NEWROUTE, body }.with(libc::RTA_OIF, &index.to_ne_bytes())
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Has the kernel do something, and hears whether it has.
fn request(socket: &OwnedFd, message: &Message) -> io::Result<()> {
    /// Length, kind, flags, number and sender.
    const HEAD: usize = 16;
    // The device is there; an address and a way are new.
    let new = if message.kind == libc::RTM_NEWLINK { 0 } else { libc::NLM_F_CREATE | libc::NLM_F_EXCL };
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | new;
    let length = u32::try_from(HEAD + message.body.len()).unwrap_or(u32::MAX);
    let flags = u16::try_from(flags).unwrap_or_default();
    let mut bytes = [&length.to_ne_bytes()[..], &message.kind.to_ne_bytes(), &flags.to_ne_bytes()].concat();
    bytes.resize(HEAD, 0);
    bytes.extend(&message.body);
    retry_on_intr(|| rustix::net::send(socket, &bytes, SendFlags::empty()))?;
    let mut answer = [0; 4096];
    let (length, _) = retry_on_intr(|| rustix::net::recv(socket, &mut answer[..], RecvFlags::empty()))?;
    // An answer is an error message, whose number is 0 if all went well.
    let told = answer.get(HEAD..length).and_then(|rest| rest.first_chunk::<4>());
    match told.map(|number| i32::from_ne_bytes(*number)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(Errno::BADMSG.into()),
    }
}
