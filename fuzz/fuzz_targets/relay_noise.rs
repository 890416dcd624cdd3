//! A Noise stream (remote.md 7, 8) over a rendezvous that drops, repeats, reorders and changes what it carries: whatever
//! arrives is what was sent, in order and whole.
#![cfg_attr(fuzzing, no_main)]

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use arbitrary::Arbitrary;
use bytes::Bytes;
use codex_fuzz::target;
use codex_relay::frame;
use codex_relay::{
    ExecutorStreams, HarnessStream, Identity, RelayEvent, RelayLimits, StreamKey, Target, Verdict,
};
use codex_secret::Secret;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    authorization: &'a str,
    stream_id: &'a str,
    acts: Vec<Act<'a>>,
}

#[derive(Debug, Arbitrary)]
enum Act<'a> {
    Carry { back: bool },
    Drop { back: bool },
    Repeat { back: bool },
    Later { back: bool },
    Change { back: bool, at: u16, by: u8 },
    Cut { back: bool, at: u16 },
    Forge { back: bool, frame: &'a [u8] },
    ForgeRecord { back: bool, seq: u32, payload: &'a [u8] },
    ForgeHandshake { back: bool, payload: &'a [u8] },
    Send { back: bool, length: u16 },
    Judge { verdict: u8 },
}

static OWN: LazyLock<Identity> = LazyLock::new(|| Identity::generate().expect("keys"));
static PEER: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate().expect("keys")));

fn message(number: usize, length: u16) -> Bytes {
    format!(r#"{{"id":{number},"method":"{}"}}"#, "m".repeat(length.into())).into()
}

target!(|input: Input<'_>| {
    let limits = RelayLimits { held_bytes: 4096, assembled_bytes: 100_000, ..RelayLimits::default() };
    let authorization = Secret::new(input.authorization.to_owned());
    let target = Target {
        environment_id: "env-1",
        registration_id: "reg-1",
        executor_public_key: PEER.public_key(),
        authorization: &authorization,
    };
    let Ok(mut harness) = HarnessStream::noise(&OWN, &target, input.stream_id.into(), limits.clone()) else {
        return;
    };
    let mut executor = ExecutorStreams::noise(Arc::clone(&PEER), "env-1", "reg-1", limits);
    let (now, mut over) = (Instant::now(), false);
    let mut asked: VecDeque<StreamKey> = VecDeque::new();
    let mut opened: Option<StreamKey> = None;
    // Under way, sent and received: to the executor, and back.
    let mut wires: [VecDeque<Bytes>; 2] = Default::default();
    let mut sent: [Vec<Bytes>; 2] = Default::default();
    let mut received: [usize; 2] = [0, 0];
    for act in input.acts {
        while let Ok(Some(frame)) = harness.next_transmit() {
            wires[0].push_back(frame);
        }
        while let Some(frame) = executor.next_transmit() {
            wires[1].push_back(frame);
        }
        let mut arrived: Option<(bool, Bytes)> = None;
        match act {
            Act::Carry { back } => arrived = wires[usize::from(back)].pop_front().map(|frame| (back, frame)),
            Act::Drop { back } => drop(wires[usize::from(back)].pop_front()),
            Act::Repeat { back } => {
                arrived = wires[usize::from(back)].front().cloned().map(|frame| (back, frame));
            }
            Act::Later { back } => {
                wires[usize::from(back)].rotate_left(usize::from(!wires[usize::from(back)].is_empty()))
            }
            Act::Change { back, at, by } => {
                if let Some(frame) = wires[usize::from(back)].front_mut() {
                    let mut bytes = frame.to_vec();
                    let at = usize::from(at) % bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= by;
                    }
                    *frame = bytes.into();
                }
            }
            Act::Cut { back, at } => {
                if let Some(frame) = wires[usize::from(back)].front_mut() {
                    frame.truncate(usize::from(at));
                }
            }
            Act::Forge { back, frame } => arrived = Some((back, Bytes::copy_from_slice(frame))),
            Act::ForgeRecord { back, seq, payload } => {
                arrived = Some((back, codex_fuzz::data_frame(input.stream_id, seq, payload)));
            }
            Act::ForgeHandshake { back, payload } => {
                arrived = Some((back, frame::handshake(input.stream_id, Bytes::copy_from_slice(payload))));
            }
            Act::Send { back: false, length } => {
                let message = message(sent[0].len(), length);
                if harness.send(message.clone()).is_ok() {
                    sent[0].push(message);
                }
            }
            Act::Send { back: true, length } => {
                let message = message(sent[1].len(), length);
                if opened.is_some_and(|stream| executor.send(stream, message.clone()).is_ok()) {
                    sent[1].push(message);
                }
            }
            Act::Judge { verdict } => {
                let verdict = match verdict % 8 {
                    0 => Verdict::Invalid,
                    1 => Verdict::CredentialRefused,
                    _ => Verdict::Valid,
                };
                if let Some(stream) = asked.pop_front() {
                    executor.validated(now, stream, verdict);
                }
            }
        }
        match arrived {
            Some((false, frame)) => executor.receive(now, frame),
            Some((true, frame)) if !over => over = harness.receive(frame).is_err(),
            _ => {}
        }
        while let Some(event) = executor.next_event() {
            match event {
                RelayEvent::Validate(handshake) => {
                    assert_eq!(&handshake.harness_public_key, OWN.public_key());
                    assert_eq!(handshake.authorization.expose(), input.authorization);
                    asked.push_back(handshake.stream);
                }
                // A handshake that is repeated after its stream's end opens one that nobody can talk on.
                RelayEvent::Opened { stream, .. } => opened = opened.or(Some(stream)),
                RelayEvent::Message { stream, message } => {
                    assert_eq!(Some(stream), opened, "only the harness' own handshake can be spoken on");
                    assert_eq!(Some(&message), sent[0].get(received[0]), "what was sent, in order");
                    received[0] += 1;
                }
                RelayEvent::Closed { stream } => asked.retain(|other| *other != stream),
                RelayEvent::Room { .. } | RelayEvent::Acked { .. } => {}
            }
        }
        while let Some(message) = harness.next_message() {
            assert_eq!(Some(&message), sent[1].get(received[1]), "what was sent, in order");
            received[1] += 1;
        }
    }
});
