//! The network device as smoltcp knows one: packets by reading and writing a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest packet (bytes): all that IPv4's length can say. Fixed by the wire.
pub(crate) const LONGEST_PACKET: usize = 65_535;

/// A TUN device of which each read and write is one packet.
#[derive(Debug)]
pub(crate) struct Tun {
    fd: OwnedFd,
    /// What was read last, and how much of it is a packet that nobody has taken.
    incoming: Vec<u8>,
    length: usize,
    outgoing: Vec<u8>,
}

impl Tun {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, incoming: vec![0; LONGEST_PACKET], length: 0, outgoing: Vec::new() })
    }

    /// Reads the next packet, which stays until smoltcp takes it or another one is read.
    ///
    /// # Errors
    /// The system's; `None` when none is there.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.length = 0;
        match retry_on_intr(|| rustix::io::read(&self.fd, &mut self.incoming)) {
            Ok(length) => {
                self.length = length;
                Ok(self.incoming.get(..length))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a packet in the place of the one that was read last.
    pub(crate) fn put_back(&mut self, packet: &[u8]) {
        self.length = packet.len().min(LONGEST_PACKET);
        self.incoming[..self.length].copy_from_slice(&packet[..self.length]);
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device for Tun {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let length = std::mem::take(&mut self.length);
        let packet = self.incoming.get(..length).filter(|packet| !packet.is_empty())?;
        Some((Received(packet), Sending { fd: &self.fd, buffer: &mut self.outgoing }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending { fd: &self.fd, buffer: &mut self.outgoing })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = LONGEST_PACKET;
        // What comes was summed by this machine's own kernel a moment ago, and was on no wire.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A packet of the program's kernel.
pub(crate) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a packet to the program's kernel.
pub(crate) struct Sending<'a> {
    fd: &'a OwnedFd,
    buffer: &'a mut Vec<u8>,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.buffer.resize(length, 0);
        let result = f(self.buffer);
        // A kernel that takes no packet loses it, as a wire would; TCP sends it again.
        let _ = retry_on_intr(|| rustix::io::write(self.fd, self.buffer));
        result
    }
}
