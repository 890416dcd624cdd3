//! Every row of the table in section 8, the limits, and fair turns, in virtual time.

use std::time::Duration;

use codex_exec_protocol::relay::relay_message_frame::Body as Wire;
use codex_exec_protocol::relay::{RelayAck, RelayData, RelayHeartbeat, RelayMessageFrame};
use codex_secret::Secret;
use prost::Message as _;

use super::*;
use crate::harness::{HarnessError, Target};
use crate::{HarnessStream, SendError};

const HELLO: &[u8] = br#"{"id":1,"method":"initialize"}"#;

/// One websocket's streams, and harnesses that know them.
pub(super) struct World {
    pub(super) streams: NoiseStreams,
    pub(super) now: Instant,
    executor: Arc<Identity>,
    harness: Identity,
}

impl World {
    pub(super) fn new(limits: RelayLimits) -> Self {
        let executor = Arc::new(Identity::generate().unwrap());
        let streams = NoiseStreams::new(Arc::clone(&executor), "env-1".into(), "reg-1".into(), limits);
        Self { streams, now: Instant::now(), executor, harness: Identity::generate().unwrap() }
    }

    pub(super) fn harness(&self, id: &str) -> HarnessStream {
        let authorization = Secret::new("granted".into());
        let target = Target {
            environment_id: "env-1",
            registration_id: "reg-1",
            executor_public_key: self.executor.public_key(),
            authorization: &authorization,
        };
        let limits = RelayLimits { queued_bytes: usize::MAX, ..RelayLimits::default() };
        HarnessStream::noise(&self.harness, &target, id.into(), limits).unwrap()
    }

    fn receive(&mut self, message: impl Into<Bytes>) -> Vec<RelayEvent> {
        self.streams.receive(self.now, message.into());
        self.events()
    }

    fn events(&mut self) -> Vec<RelayEvent> {
        std::iter::from_fn(|| self.streams.open.next_event()).collect()
    }

    /// A stream's handshake, up to the question to the registry.
    fn pending(&mut self, id: &str) -> (HarnessStream, StreamKey) {
        let mut harness = self.harness(id);
        assert_eq!(self.receive(harness.next_transmit().unwrap().unwrap()), [], "resume");
        let events = self.receive(harness.next_transmit().unwrap().unwrap());
        let [RelayEvent::Validate(handshake)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(handshake.id.as_str(), id);
        assert_eq!(&handshake.harness_public_key, self.harness.public_key());
        assert_eq!(handshake.authorization.expose(), "granted");
        assert_eq!(harness.next_transmit().unwrap(), None);
        (harness, handshake.stream)
    }

    pub(super) fn open(&mut self, id: &str) -> (HarnessStream, StreamKey) {
        let (mut harness, stream) = self.pending(id);
        self.streams.validated(self.now, stream, Verdict::Valid);
        assert_eq!(self.events(), [RelayEvent::Opened { stream, id: id.into() }]);
        harness.receive(self.streams.next_transmit().unwrap()).unwrap();
        assert!(harness.is_open());
        let ack = harness.next_transmit().unwrap().unwrap();
        assert_eq!(self.receive(ack), [RelayEvent::Acked { stream, frames: 0 }]);
        (harness, stream)
    }

    /// One message from the harness gets through.
    fn speaks(&mut self, harness: &mut HarnessStream, stream: StreamKey) {
        let message = Bytes::from_static(HELLO);
        harness.send(message.clone()).unwrap();
        let record = harness.next_transmit().unwrap().unwrap();
        assert_eq!(self.receive(record), [RelayEvent::Message { stream, message }]);
    }

    /// What is sent is a reset for this id, and nothing else.
    fn is_reset(&mut self, id: &str) {
        assert_eq!(self.streams.next_transmit(), Some(frame::reset(id, "noise_relay_protocol_error")));
        self.is_silent();
    }

    fn is_silent(&mut self) {
        assert!(!self.streams.has_transmit());
        assert_eq!((self.streams.next_transmit(), self.events()), (None, vec![]));
    }
}

fn world() -> World {
    World::new(RelayLimits::default())
}

#[test]
fn a_handshake_is_asked_of_the_registry_and_then_carries_messages_both_ways() {
    let mut world = world();
    let (mut harness, stream) = world.open("S");
    world.speaks(&mut harness, stream);
    world.streams.open.send(stream, Bytes::from_static(b"{\"id\":1}")).unwrap();
    harness.receive(world.streams.next_transmit().unwrap()).unwrap();
    assert_eq!(harness.next_message(), Some(Bytes::from_static(b"{\"id\":1}")));
    world.is_silent();
}

#[test]
fn a_refused_handshake_is_reset() {
    let mut world = world();
    let (mut harness, stream) = world.pending("S");
    world.streams.validated(world.now, stream, Verdict::Invalid);
    let reset = world.streams.next_transmit().unwrap();
    assert_eq!(harness.receive(reset), Err(HarnessError::Reset("noise_relay_protocol_error".into())));
    world.is_silent();
    world.open("S");
}

#[test]
fn the_executors_refused_credential_is_told_and_the_stream_is_closed() {
    let mut world = world();
    let (mut harness, stream) = world.pending("S");
    world.streams.validated(world.now, stream, Verdict::CredentialRefused);
    let answer = world.streams.next_transmit().unwrap();
    assert_eq!(harness.receive(answer), Err(HarnessError::ExecutorCredential));
    world.is_silent();
    assert_eq!(world.receive(frame::data("S", 0, b"x")), []);
    world.is_reset("S");
}

#[test]
fn a_handshake_on_an_open_stream_is_reset_and_harms_nothing() {
    let mut world = world();
    let (mut harness, stream) = world.open("S");
    let mut second = world.harness("S");
    second.next_transmit().unwrap();
    assert_eq!(world.receive(second.next_transmit().unwrap().unwrap()), []);
    world.is_reset("S");
    world.speaks(&mut harness, stream);
}

#[test]
fn a_second_handshake_or_data_while_one_is_pending_drops_it() {
    for second in [frame::handshake("S", Bytes::from_static(b"x")), frame::data("S", 0, b"x")] {
        let mut world = world();
        let (_, stream) = world.pending("S");
        assert_eq!(world.receive(second), [RelayEvent::Closed { stream }]);
        world.is_reset("S");
        world.streams.validated(world.now, stream, Verdict::Valid);
        world.is_silent();
        world.open("S");
    }
}

#[test]
fn data_on_an_unknown_stream_is_reset() {
    let mut world = world();
    assert_eq!(world.receive(frame::data("S", 0, b"x")), []);
    world.is_reset("S");
}

#[test]
fn an_unreadable_handshake_is_reset() {
    let mut world = world();
    assert_eq!(world.receive(frame::handshake("S", vec![7; 3568].into())), []);
    world.is_reset("S");
    assert_eq!(world.receive(frame::handshake("S", vec![7; 70_000].into())), []);
    world.is_reset("S");
}

#[test]
fn bad_and_idle_frames_are_dropped_silently() {
    let raw = |version, stream_id: &str, body| {
        let frame = RelayMessageFrame { version, stream_id: stream_id.into(), body, ..Default::default() };
        frame.encode_to_vec()
    };
    let piece = |segment_index, segment_count, payload: &'static [u8]| {
        let payload = Bytes::from_static(payload);
        Some(Wire::Data(RelayData { seq: 0, segment_index, segment_count, payload }))
    };
    let mut world = world();
    let (mut harness, stream) = world.open("S");
    let dropped = [
        Vec::new(),
        b"{}".to_vec(),
        raw(2, "S", piece(0, 1, b"x")),
        raw(1, " ", piece(0, 1, b"x")),
        raw(1, "S", piece(0, 1, b"")),
        raw(1, "S", piece(1, 2, b"x")),
        raw(1, "S", None),
        raw(1, "unknown", Some(Wire::AckFrame(RelayAck {}))),
        raw(1, "S", Some(Wire::Heartbeat(RelayHeartbeat {}))),
        frame::resume("S").to_vec(),
        frame::reset("S", " ").to_vec(),
        frame::reset("unknown", "x").to_vec(),
    ];
    for message in dropped {
        assert_eq!(world.receive(message), []);
        world.is_silent();
    }
    world.speaks(&mut harness, stream);
}

#[test]
fn data_that_fails_closes_its_stream_and_no_other() {
    let mut world = world();
    let (mut other, alive) = world.open("T");
    let broken: [fn(&mut HarnessStream) -> Bytes; 5] = [
        |_| frame::data("S", 0, &[1; 40]),
        |_| frame::data("S", 0, &[1; 3]),
        |_| frame::data("S", 65, &[1; 40]),
        |_| frame::data("S", 1, &[1; 61_457]),
        |harness| {
            harness.send(Bytes::from_static(b"no json")).unwrap();
            harness.next_transmit().unwrap().unwrap()
        },
    ];
    for make in broken {
        let (mut harness, stream) = world.open("S");
        let record = make(&mut harness);
        assert_eq!(world.receive(record), [RelayEvent::Closed { stream }]);
        world.is_reset("S");
        world.speaks(&mut other, alive);
    }
}

#[test]
fn a_reset_closes_a_stream_or_a_pending_handshake_and_its_id_is_free_at_once() {
    let mut world = world();
    let (_, stream) = world.open("S");
    world.streams.open.send(stream, Bytes::from_static(HELLO)).unwrap();
    assert_eq!(world.receive(frame::reset("S", "bye")), [RelayEvent::Closed { stream }]);
    world.is_silent();
    assert_eq!(world.streams.open.send(stream, Bytes::from_static(HELLO)), Err(SendError::Ended));
    let (_, stream) = world.pending("S");
    assert_eq!(world.receive(frame::reset("S", "bye")), [RelayEvent::Closed { stream }]);
    world.is_silent();
    let (mut harness, stream) = world.open("S");
    world.speaks(&mut harness, stream);
}

#[test]
fn a_connection_that_ends_here_sends_what_is_queued_and_then_a_reset() {
    let mut world = world();
    let (mut harness, stream) = world.open("S");
    let long = Bytes::from(vec![b' '; 100_000]);
    world.streams.open.send(stream, long.clone()).unwrap();
    world.streams.close(stream);
    assert_eq!(world.streams.open.send(stream, long.clone()), Err(SendError::Ended));
    harness.send(Bytes::from_static(HELLO)).unwrap();
    let late = harness.next_transmit().unwrap().unwrap();
    assert_eq!(world.receive(late), []);
    for _ in 0..2 {
        harness.receive(world.streams.next_transmit().unwrap()).unwrap();
    }
    assert_eq!(harness.next_message(), Some(long));
    world.is_reset("S");
    let (_, stream) = world.open("S");
    world.streams.close(stream);
    world.is_reset("S");
}

#[test]
fn open_streams_and_pending_handshakes_are_bounded() {
    let limits = RelayLimits { streams: 2, handshakes: 3, ..RelayLimits::default() };
    let mut world = World::new(limits);
    let first = |world: &World, id: &str| {
        let mut harness = world.harness(id);
        harness.next_transmit().unwrap();
        harness.next_transmit().unwrap().unwrap()
    };
    let pending: Vec<_> = ["A", "B", "C"].map(|id| world.pending(id).1).into();
    let message = first(&world, "D");
    assert_eq!(world.receive(message), []);
    world.is_reset("D");
    for stream in &pending[..2] {
        world.streams.validated(world.now, *stream, Verdict::Valid);
        assert!(world.streams.next_transmit().is_some());
    }
    world.events();
    world.streams.validated(world.now, pending[2], Verdict::Valid);
    world.is_reset("C");
    let message = first(&world, "D");
    assert_eq!(world.receive(message), []);
    world.is_reset("D");
    world.receive(frame::reset("A", "bye"));
    world.open("D");
}

#[test]
fn after_eight_failures_a_harness_is_reset_for_ten_seconds_and_no_other() {
    let mut world = world();
    world.open("before");
    for n in 0..8 {
        // Successes in between do not start the count over, and what is nobody's fault or nobody knows whose is not counted.
        world.open(&format!("good {n}"));
        let (_, stream) = world.pending("refused");
        world.streams.validated(world.now, stream, Verdict::CredentialRefused);
        assert!(world.streams.next_transmit().is_some());
        world.receive(frame::handshake("junk", Bytes::from_static(b"unreadable")));
        world.is_reset("junk");
        let (_, stream) = world.pending("S");
        match n % 3 {
            0 => world.streams.validated(world.now, stream, Verdict::Invalid),
            1 => assert_eq!(world.receive(frame::data("S", 0, b"x")), [RelayEvent::Closed { stream }]),
            // Whoever drops a handshake made us work for it; nothing is sent then.
            _ => assert_eq!(world.receive(frame::reset("S", "bye")), [RelayEvent::Closed { stream }]),
        }
        assert_eq!(world.streams.next_transmit().is_some(), n % 3 != 2);
        world.now += Duration::from_secs(3600);
    }
    world.now -= Duration::from_secs(3600);
    let mut harness = world.harness("S");
    harness.next_transmit().unwrap();
    let message = harness.next_transmit().unwrap().unwrap();
    let failing = std::mem::replace(&mut world.harness, Identity::generate().unwrap());
    for n in 0..3 {
        assert_eq!(world.receive(message.clone()), []);
        world.is_reset("S");
        world.open(&format!("another's {n}"));
        world.now += Duration::from_millis(3333);
    }
    world.now += Duration::from_millis(1);
    world.harness = failing;
    world.open("S");
}

#[test]
fn a_harness_that_takes_all_places_before_the_registry_gives_one_up_to_another() {
    let mut world = World::new(RelayLimits { handshakes: 4, ..RelayLimits::default() });
    let crowd = ["1", "2", "3", "4"].map(|id| world.pending(id).1);
    let crowding = std::mem::replace(&mut world.harness, Identity::generate().unwrap());
    for (id, given_up) in [("A", 3), ("B", 2)] {
        let mut harness = world.harness(id);
        harness.next_transmit().unwrap();
        let events = world.receive(harness.next_transmit().unwrap().unwrap());
        let [RelayEvent::Closed { stream }, RelayEvent::Validate(handshake)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!((*stream, handshake.id.as_str()), (crowd[given_up], id));
        world.is_reset(["1", "2", "3", "4"][given_up]);
    }
    // Both have as many now: whoever comes is refused, and nobody else.
    let refused = |world: &mut World| {
        let mut harness = world.harness("C");
        harness.next_transmit().unwrap();
        assert_eq!(world.receive(harness.next_transmit().unwrap().unwrap()), []);
        world.is_reset("C");
    };
    refused(&mut world);
    world.harness = crowding;
    refused(&mut world);
    // What was given up is no failure of its harness: its others still get their answer.
    world.streams.validated(world.now, crowd[0], Verdict::Valid);
    assert!(matches!(world.events()[..], [RelayEvent::Opened { .. }]));
}

#[test]
fn a_large_message_does_not_hold_up_a_small_one() {
    let mut world = world();
    let (mut slow, large) = world.open("large");
    let (mut quick, small) = world.open("small");
    let file = Bytes::from(vec![b' '; 10 << 20]);
    world.streams.open.send(large, file.clone()).unwrap();
    world.streams.open.send(small, Bytes::from_static(HELLO)).unwrap();
    assert!(!world.streams.open.has_room(large) && world.streams.open.has_room(small));
    let frames: Vec<_> = std::iter::from_fn(|| world.streams.next_transmit()).collect();
    assert_eq!(frames.len(), (10usize << 20).div_ceil(60 << 10) + 1);
    for frame in &frames[..2] {
        slow.receive(frame.clone()).unwrap();
        quick.receive(frame.clone()).unwrap();
    }
    assert_eq!(quick.next_message(), Some(Bytes::from_static(HELLO)), "second in line");
    for frame in &frames[2..] {
        slow.receive(frame.clone()).unwrap();
    }
    assert_eq!(slow.next_message(), Some(file));
    assert_eq!(world.events(), [RelayEvent::Room { stream: large }]);
}

#[test]
fn a_peer_that_makes_faults_and_does_not_read_costs_bounded_memory() {
    let mut world = World::new(RelayLimits { queued_control: 10, ..RelayLimits::default() });
    for n in 0..1000 {
        assert_eq!(world.receive(frame::data(&n.to_string(), 0, b"x")), []);
    }
    assert_eq!(std::iter::from_fn(|| world.streams.next_transmit()).count(), 10);
}

#[test]
fn a_peer_that_opens_and_resets_streams_and_does_not_read_costs_bounded_memory() {
    let mut world = World::new(RelayLimits { queued_control: 10, ..RelayLimits::default() });
    for n in 0..30 {
        let id = n.to_string();
        let mut harness = world.harness(&id);
        world.receive(harness.next_transmit().unwrap().unwrap());
        for event in world.receive(harness.next_transmit().unwrap().unwrap()) {
            let RelayEvent::Validate(handshake) = event else { panic!("{event:?}") };
            world.streams.validated(world.now, handshake.stream, Verdict::Valid);
        }
        world.receive(frame::reset(&id, "again"));
    }
    assert_eq!(std::iter::from_fn(|| world.streams.next_transmit()).count(), 10);
    world.open("A");
}

#[test]
fn incomplete_messages_of_all_streams_share_one_bound() {
    let mut world = World::new(RelayLimits { assembled_bytes: 150_000, ..RelayLimits::default() });
    let (mut a, _) = world.open("A");
    let (mut b, second) = world.open("B");
    let long = Bytes::from([b"{\"id\":1,\"method\":\"m\"", &vec![b' '; 100_000][..], b"}"].concat());
    a.send(long.clone()).unwrap();
    b.send(long.clone()).unwrap();
    b.send(long.clone()).unwrap();
    let mut next = |harness: &mut HarnessStream| {
        let record = harness.next_transmit().unwrap().unwrap();
        world.receive(record)
    };
    assert_eq!(next(&mut a), []);
    assert_eq!(next(&mut b), []);
    assert!(matches!(next(&mut a)[..], [RelayEvent::Message { .. }]));
    assert!(matches!(next(&mut b)[..], [RelayEvent::Message { .. }]), "what is whole frees its memory");
    a.send(long).unwrap();
    world.streams.limits.assembled_bytes = 100_000;
    let record = a.next_transmit().unwrap().unwrap();
    assert_eq!(world.receive(record), []);
    let record = b.next_transmit().unwrap().unwrap();
    assert_eq!(world.receive(record), [RelayEvent::Closed { stream: second }]);
    world.is_reset("B");
}
