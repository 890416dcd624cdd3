//! The loop: packets, answers, questions for names, and the real connections, each as far as it goes without waiting.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant as Clock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::Socket;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv6Address};

use crate::carried::{self, Carried};
use crate::device::Tun;
use crate::link::{Ask, Given, StackEnd};
use crate::names::{Names, Target};
use crate::packet::{self, Ends, Kind};
use crate::questions::Questions;

/// Packets that are taken before connections are looked after.
const BATCH: usize = 64;
/// Connections that may wait for an answer at once. More have their first packet forgotten, which comes again.
/// A safeguard, far from any real use.
const MOST_PENDING: usize = 256;
/// The stack's own addresses, of ranges for documentation, which are nobody's (RFC 5737, RFC 3849).
const OWN_V4: Ipv4Address = Ipv4Address::new(192, 0, 2, 2);
const OWN_V6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// How much a program may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Connections; the first packet of one more is forgotten until there is room.
    pub connections: usize,
    /// Names that have got addresses; one more is not resolved.
    pub names: usize,
}

/// Carries a program's connections until nobody answers questions any more.
///
/// # Errors
/// When the device or the link breaks.
pub fn serve(link: StackEnd) -> io::Result<()> {
    let Some((given, bounds)) = link.take()? else { return Ok(()) };
    Service::new(link, given, bounds, RandomState::new().build_hasher().finish())?.run()
}

pub(crate) struct Service {
    link: StackEnd,
    tun: Tun,
    questions: Questions,
    names: Names,
    interface: Interface,
    sockets: SocketSet<'static>,
    began: Clock,
    most: usize,
    next: u64,
    /// Their first packets, until it is known whether they may be.
    pending: HashMap<u64, (Ends, Vec<u8>)>,
    carried: BTreeMap<u64, Carried>,
    known: HashMap<Ends, u64>,
}

impl Service {
    /// Nobody is to guess the `seed`, of which sequence numbers are made.
    pub(crate) fn new(link: StackEnd, given: Given, bounds: Bounds, seed: u64) -> io::Result<Self> {
        let mut tun = Tun::new(given.device)?;
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut tun, Instant::ZERO);
        let full = |_| io::Error::from(Errno::NOBUFS);
        let mut fits = true;
        interface.update_ip_addrs(|own| {
            for (address, length) in [(IpAddress::Ipv4(OWN_V4), 32), (IpAddress::Ipv6(OWN_V6), 128)] {
                fits &= own.push(IpCidr::new(address, length)).is_ok();
            }
        });
        if !fits {
            return Err(Errno::NOBUFS.into());
        }
        interface.routes_mut().add_default_ipv4_route(OWN_V4).map_err(full)?;
        interface.routes_mut().add_default_ipv6_route(OWN_V6).map_err(full)?;
        // Whatever address a program connects to is the stack's.
        interface.set_any_ip(true);
        Ok(Self {
            link,
            tun,
            questions: Questions::new(given.datagrams, given.listener)?,
            names: Names::new(bounds.names),
            interface,
            sockets: SocketSet::new(Vec::new()),
            began: Clock::now(),
            most: bounds.connections,
            next: 0,
            pending: HashMap::new(),
            carried: BTreeMap::new(),
            known: HashMap::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.link && !self.hear()? {
                return Ok(());
            }
            if ready.packets {
                self.take_packets()?;
            }
            if ready.questions {
                self.questions.answer(&mut self.names);
            }
            self.carry();
        }
    }

    /// One turn in which everything is looked at, without waiting. For fuzzing.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.take_packets()?;
        self.hear()?;
        for carried in self.carried.values_mut() {
            carried.happened(PollFlags::IN | PollFlags::OUT);
        }
        self.carry();
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Waits until something can be done.
    fn wait(&mut self) -> io::Result<Ready> {
        let now = self.now();
        let patience = self.interface.poll_delay(now, &self.sockets).map(|delay| Timespec {
            tv_sec: i64::try_from(delay.secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(delay.micros()).unwrap_or(0) * 1000,
        });
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.link.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.tun.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.questions.watched().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let others = fds.len();
        let mut waiting = Vec::new();
        for (id, carried) in &self.carried {
            let waits = carried.waits_for(self.sockets.get(carried.handle));
            // One that waits for nothing would say again and again that its other end is gone.
            if !waits.is_empty() {
                waiting.push(*id);
                fds.push(PollFd::from_borrowed_fd(carried.remote(), waits));
            }
        }
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let (others, remotes) = events.split_at(others);
        for (id, events) in waiting.into_iter().zip(remotes) {
            if let Some(carried) = self.carried.get_mut(&id) {
                carried.happened(*events);
            }
        }
        let is_ready = |events: &PollFlags| !events.is_empty();
        Ok(Ready {
            link: others.first().is_some_and(is_ready),
            packets: others.get(1).is_some_and(is_ready),
            questions: others.iter().skip(2).any(is_ready),
        })
    }

    fn take_packets(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            let Some(packet) = self.tun.next()? else { return Ok(()) };
            match packet::kind(packet) {
                Kind::Noise => continue,
                Kind::Other => {}
                Kind::Begins(ends) => {
                    let packet = packet.to_vec();
                    if self.begin(ends, packet) {
                        continue;
                    }
                }
            }
            self.feed();
        }
        Ok(())
    }

    /// Gives the stack the packet that was read.
    fn feed(&mut self) {
        let now = self.now();
        self.interface.poll_ingress_single(now, &mut self.tun, &mut self.sockets);
    }

    /// Keeps the first packet of a connection until it is known whether it may be. False for one that the stack is to
    /// have: of a connection that it knows, or of one that leads nowhere, which it refuses.
    fn begin(&mut self, ends: Ends, packet: Vec<u8>) -> bool {
        if let Some(id) = self.known.get(&ends) {
            return match self.pending.get_mut(id) {
                // The latest counts: the program may have begun anew from the same port.
                Some((_, held)) => {
                    *held = packet;
                    true
                }
                None => false,
            };
        }
        let Target::Host(host) = self.names.target(ends.target.ip()) else { return false };
        if self.pending.len() >= MOST_PENDING || self.pending.len() + self.carried.len() >= self.most {
            return true;
        }
        let id = self.next;
        let ask = Ask { id, client: ends.program, host, port: ends.target.port() };
        // One that can't be asked about now begins once more when its packet comes again.
        if self.link.ask(&ask).is_ok() {
            self.next += 1;
            self.known.insert(ends, id);
            self.pending.insert(id, (ends, packet));
        }
        true
    }

    /// Takes answers; false when there will be no more.
    fn hear(&mut self) -> io::Result<bool> {
        loop {
            match self.link.next() {
                Ok(None) => return Ok(false),
                Ok(Some((id, remote))) => self.answered(id, remote),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets a connection begin, or has it refused, as nobody listens for it.
    fn answered(&mut self, id: u64, remote: Option<OwnedFd>) {
        let Some((ends, packet)) = self.pending.remove(&id) else { return };
        let waiting = remote.and_then(|remote| Some((remote, carried::waiting(ends.target.into())?)));
        let carried = waiting.map(|(remote, socket)| Carried::new(self.sockets.add(socket), remote));
        self.tun.put_back(&packet);
        self.feed();
        match carried {
            Some(carried) if self.socket(&carried).remote_endpoint() == Some(ends.program.into()) => {
                self.carried.insert(id, carried);
            }
            other => {
                self.known.remove(&ends);
                if let Some(carried) = other {
                    self.sockets.remove(carried.handle);
                }
            }
        }
    }

    fn socket(&self, carried: &Carried) -> &Socket<'static> {
        self.sockets.get(carried.handle)
    }

    /// Carries what there is, says what has to be said, and forgets what is over.
    fn carry(&mut self) {
        for carried in self.carried.values_mut() {
            carried.carry(self.sockets.get_mut(carried.handle));
        }
        let now = self.now();
        while self.interface.poll_egress(now, &mut self.tun, &mut self.sockets)
            != smoltcp::iface::PollResult::None
        {}
        let sockets = &mut self.sockets;
        let over = |carried: &Carried| carried::is_over(sockets.get::<Socket<'_>>(carried.handle));
        let over: Vec<u64> =
            self.carried.iter().filter(|(_, carried)| over(carried)).map(|(id, _)| *id).collect();
        for id in over {
            if let Some(carried) = self.carried.remove(&id) {
                self.sockets.remove(carried.handle);
            }
            self.known.retain(|_, known| *known != id);
        }
    }
}

/// What can be done without waiting.
struct Ready {
    link: bool,
    packets: bool,
    questions: bool,
}
