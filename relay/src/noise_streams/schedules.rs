//! Noise streams under random delay, reordering, duplication and loss, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::World;
use super::*;
use crate::{ExecutorStreams, HarnessError, HarnessStream, frame};

const TICK: Duration = Duration::from_millis(1);

/// What becomes of one frame.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// In ticks; small enough to stay within the window.
    delay: u64,
    /// A second copy comes this much later.
    again: Option<u64>,
    lost: bool,
}

fn fate(lossy: bool) -> impl Strategy<Value = Fate> {
    let lost = if lossy { prop::bool::weighted(0.03).boxed() } else { Just(false).boxed() };
    (0u64..12, prop::option::weighted(0.2, 0u64..100), lost).prop_map(|(delay, again, lost)| Fate {
        delay,
        again,
        lost,
    })
}

/// Frames on their way, by time of arrival and then by order.
#[derive(Default)]
struct Network {
    on_the_way: BTreeMap<(u64, u64), Bytes>,
    sent: u64,
    lost: bool,
}

impl Network {
    fn send(&mut self, tick: u64, frame: Bytes, fate: Fate) {
        self.sent += 1;
        self.lost |= fate.lost;
        if !fate.lost {
            self.on_the_way.insert((tick + fate.delay, self.sent * 2), frame.clone());
        }
        // A copy of a lost frame would make the loss good.
        if let Some(later) = fate.again.filter(|_| !fate.lost) {
            self.on_the_way.insert((tick + fate.delay + later, self.sent * 2 + 1), frame);
        }
    }

    fn arrivals(&mut self, tick: u64) -> Vec<Bytes> {
        let later = self.on_the_way.split_off(&(tick + 1, 0));
        std::mem::replace(&mut self.on_the_way, later).into_values().collect()
    }
}

fn message(stream: usize, number: usize, length: usize) -> Bytes {
    let text = format!(r#"{{"id":{number},"method":"{stream}","params":"{}"}}"#, "x".repeat(length));
    Bytes::from(text)
}

/// One harness and what passed between it and the executor.
struct Side {
    harness: HarnessStream,
    key: StreamKey,
    forth: Vec<Bytes>,
    back: Vec<Bytes>,
    arrived_forth: Vec<Bytes>,
    arrived_back: Vec<Bytes>,
    network: Network,
    closed: bool,
}

/// Runs all messages of all streams through the network, one frame of each direction and stream in a tick.
fn run(lengths: &[Vec<usize>], fates: &[Fate]) -> Vec<Side> {
    let mut world = World::new(RelayLimits { queued_bytes: usize::MAX, ..RelayLimits::default() });
    let mut fates = fates.iter().copied().cycle();
    let mut fate = || fates.next().unwrap_or(Fate { delay: 0, again: None, lost: false });
    let mut sides: Vec<Side> = Vec::new();
    for (n, lengths) in lengths.iter().enumerate() {
        let (mut harness, key) = world.open(&format!("stream {n}"));
        let messages: Vec<Bytes> =
            lengths.iter().enumerate().map(|(i, length)| message(n, i, *length)).collect();
        for message in &messages {
            harness.send(message.clone()).unwrap();
            world.streams.open.send(key, message.clone()).unwrap();
        }
        sides.push(Side {
            harness,
            key,
            forth: Vec::new(),
            back: messages.clone(),
            arrived_forth: Vec::new(),
            arrived_back: Vec::new(),
            network: Network::default(),
            closed: false,
        });
        sides[n].forth = messages;
    }
    let mut to_harness = Network::default();
    for tick in 0..10_000 {
        world.now += TICK;
        let mut busy = false;
        for side in &mut sides {
            if let Some(frame) = side.harness.next_transmit().unwrap() {
                side.network.send(tick, frame, fate());
            }
            for frame in side.network.arrivals(tick) {
                world.streams.receive(world.now, frame);
            }
            busy |= !side.network.on_the_way.is_empty();
        }
        if let Some(frame) = world.streams.next_transmit() {
            let fate = fate();
            to_harness.send(tick, frame, fate);
        }
        for frame in to_harness.arrivals(tick) {
            let id = frame::parse(frame.clone(), 100).unwrap().stream_id;
            let side = sides.iter_mut().find(|side| side.harness.id().as_str() == id).unwrap();
            if side.closed {
                continue;
            }
            match side.harness.receive(frame) {
                Ok(()) => side.arrived_back.extend(std::iter::from_fn(|| side.harness.next_message())),
                Err(error) => {
                    let expected = matches!(error, HarnessError::Noise(_) | HarnessError::Reset(_));
                    assert!(expected, "{error}");
                    side.closed = true;
                }
            }
        }
        while let Some(event) = world.streams.open.next_event() {
            match event {
                RelayEvent::Message { stream, message } => {
                    sides.iter_mut().find(|side| side.key == stream).unwrap().arrived_forth.push(message);
                }
                RelayEvent::Closed { stream } => {
                    sides.iter_mut().find(|side| side.key == stream).unwrap().closed = true;
                }
                RelayEvent::Room { .. } | RelayEvent::Acked { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        if !busy && to_harness.on_the_way.is_empty() && !world.streams.has_transmit() {
            break;
        }
    }
    for side in &mut sides {
        side.network.lost |= to_harness.lost;
    }
    sides
}

fn streams() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let length = prop_oneof![8 => 0usize..300, 1 => 50_000usize..70_000, 1 => 100_000usize..200_000];
    vec(vec(length, 1..12), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delay_reordering_and_duplication_lose_double_and_swap_nothing(
        lengths in streams(), fates in vec(fate(false), 1..60),
    ) {
        for side in run(&lengths, &fates) {
            prop_assert!(!side.closed);
            // Not `prop_assert_eq`: it would print all that passed.
            prop_assert!(side.arrived_forth == side.forth, "{} came forth", side.arrived_forth.len());
            prop_assert!(side.arrived_back == side.back, "{} came back", side.arrived_back.len());
        }
    }

    #[test]
    fn no_frames_break_a_machine_or_its_bounds(
        frames in vec((0usize..6, 0u8..5, any::<u32>(), vec(any::<u8>(), 0..40)), 0..200), plain in any::<bool>(),
    ) {
        let limits = RelayLimits { streams: 3, handshakes: 2, queued_control: 20, ..RelayLimits::default() };
        let now = Instant::now();
        let mut streams = if plain {
            ExecutorStreams::plain(limits)
        } else {
            let identity = Arc::new(Identity::generate().unwrap());
            ExecutorStreams::noise(identity, "env", "reg", limits)
        };
        let mut harness = HarnessStream::plain("0".into(), RelayLimits::default());
        let mut open = std::collections::BTreeSet::new();
        for (kind, id, seq, bytes) in frames {
            let id = id.to_string();
            let message = match kind {
                0 => frame::data(&id, seq, &bytes),
                1 => frame::data(&id, seq, b"{\"id\":1,\"method\":\"m\"}"),
                2 => frame::reset(&id, "bye"),
                3 => frame::handshake(&id, bytes.into()),
                4 => frame::resume(&id),
                _ => bytes.into(),
            };
            // Its answer may be an error, but it is an answer.
            let _ = harness.receive(message.clone());
            streams.receive(now, message);
            while let Some(event) = streams.next_event() {
                match event {
                    RelayEvent::Opened { stream, .. } => prop_assert!(open.insert(stream)),
                    RelayEvent::Message { stream, .. } | RelayEvent::Acked { stream, .. } => {
                        prop_assert!(open.contains(&stream));
                    }
                    RelayEvent::Closed { stream } => prop_assert!(open.remove(&stream)),
                    RelayEvent::Room { .. } | RelayEvent::Validate(_) => prop_assert!(false, "out of nothing"),
                }
            }
            prop_assert!(open.len() <= 3);
            if let Some(stream) = open.iter().next().copied().filter(|_| seq % 7 == 0) {
                streams.close(stream);
                open.remove(&stream);
            }
        }
        prop_assert!(std::iter::from_fn(|| streams.next_transmit()).count() <= 20);
    }

    #[test]
    fn after_a_loss_a_stream_gives_what_came_before_it_and_nothing_else(
        lengths in streams(), fates in vec(fate(true), 20..200),
    ) {
        for side in run(&lengths, &fates) {
            prop_assert!(side.forth.starts_with(&side.arrived_forth));
            prop_assert!(side.back.starts_with(&side.arrived_back));
            prop_assert!(side.network.lost || !side.closed);
        }
    }
}

#[test]
fn a_loss_closes_the_stream_once_the_window_is_over() {
    let mut world = World::new(RelayLimits::default());
    let (mut harness, stream) = world.open("S");
    let mut send = |world: &mut World, arrives: bool| {
        harness.send(message(0, 0, 1)).unwrap();
        let frame = harness.next_transmit().unwrap().unwrap();
        if arrives {
            world.streams.receive(world.now, frame);
        }
        world.streams.open.next_event()
    };
    send(&mut world, false);
    for _ in 0..64 {
        assert_eq!(send(&mut world, true), None);
    }
    assert_eq!(send(&mut world, true), Some(RelayEvent::Closed { stream }));
    assert!(world.streams.has_transmit(), "the reset");
}
