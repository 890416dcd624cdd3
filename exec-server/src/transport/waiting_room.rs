//! Connections that have not said yet what they are: few, apart from those that are served, and none can hold a place
//! against a newer one for long.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::observe::Address;

/// Where a connection comes from, as far as one party can be told from another: an IPv4 address, an IPv6 network of 64
/// bits, of which one party has all addresses, or this machine by a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
    Unix,
}

impl Origin {
    pub(super) fn of(address: &Address) -> Self {
        match address {
            Address::Tcp(address) => address.ip().into(),
            Address::Here | Address::Stdio | Address::Unix { .. } | Address::Relay { .. } => Self::Unix,
        }
    }
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The connections that have not said yet what they are.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    /// How many may wait at once. An honest one is through within a round trip.
    most: usize,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    next: u64,
    /// By the order in which they came.
    seats: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    origin: Origin,
    /// Held for its drop, which tells the connection to go.
    _stay: oneshot::Sender<()>,
}

/// A place in the room; free again when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    leave: oneshot::Receiver<()>,
    room: Arc<WaitingRoom>,
}

impl WaitingRoom {
    /// An empty room for at most this many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, room: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock()
    }

    /// Takes a connection in. In a full room the oldest of whoever has the most places there makes room.
    pub(super) fn enter(self: &Arc<Self>, origin: Origin) -> Waiting {
        let (stay, leave) = oneshot::channel();
        let mut room = self.lock();
        if room.seats.len() >= self.most {
            room.make_room();
        }
        let number = room.next;
        room.next += 1;
        room.seats.insert(number, Seat { origin, _stay: stay });
        Waiting { number, leave, room: Arc::clone(self) }
    }
}

impl Room {
    fn make_room(&mut self) {
        let mut counts: HashMap<Origin, usize> = HashMap::new();
        for seat in self.seats.values() {
            *counts.entry(seat.origin).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let oldest = self.seats.iter().find(|(_, seat)| counts.get(&seat.origin) == Some(&most));
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.seats.remove(&number);
            tracing::warn!("closed an unfinished connection to make room for a newer one");
        }
    }
}

impl Waiting {
    /// Waits until the place is needed for another. Cancel-safe.
    pub(super) async fn must_leave(&mut self) {
        // The other end says nothing; it goes.
        if !self.leave.is_terminated() {
            let _ = (&mut self.leave).await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.room.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn v4(last: u8) -> Origin {
        IpAddr::from([192, 0, 2, last]).into()
    }

    /// Whether it was told to go.
    fn left(waiting: &mut Waiting) -> bool {
        waiting.must_leave().now_or_never().is_some()
    }

    const SEATS: usize = 128;

    #[test]
    fn whoever_has_the_most_places_makes_room_with_the_oldest() {
        let room = Arc::new(WaitingRoom::new(SEATS));
        let mut honest = room.enter(v4(1));
        let mut crowd: Vec<Waiting> = (1..SEATS).map(|_| room.enter(v4(2))).collect();
        assert!(!crowd.iter_mut().any(left), "there is room for them");
        let mut newcomer = room.enter(v4(3));
        assert!(left(&mut crowd[0]) && !left(&mut crowd[1]) && !left(&mut honest) && !left(&mut newcomer));
        let more: Vec<Waiting> = (0..SEATS * 2).map(|_| room.enter(v4(2))).collect();
        assert!(crowd.iter_mut().all(left), "a crowd makes room for itself");
        assert!(!left(&mut honest) && !left(&mut newcomer));
        drop((crowd, more));
        assert_eq!(room.lock().seats.len(), 2);
    }

    #[test]
    fn one_party_s_addresses_count_as_one() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.7"), v4(7));
    }
}
