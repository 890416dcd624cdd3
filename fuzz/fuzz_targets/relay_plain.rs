//! The executor's plain streams (remote.md 4.1, 4.2) under any order of frames and calls.
#![cfg_attr(fuzzing, no_main)]

use std::collections::HashSet;
use std::time::Instant;

use arbitrary::Arbitrary;
use bytes::Bytes;
use codex_fuzz::target;
use codex_relay::frame::{self, Body};
use codex_relay::{ExecutorStreams, RelayEvent, RelayLimits, SendError, StreamKey};

const LIMITS: usize = 3;

#[derive(Debug, Arbitrary)]
enum Act<'a> {
    Raw(&'a [u8]),
    Data { id: u8, seq: u32, payload: &'a [u8] },
    Message { id: u8, seq: u32 },
    Reset { id: u8 },
    Ack { id: u8, ack: u32 },
    Idle { id: u8 },
    Send { stream: u8, length: u8 },
    Close { stream: u8 },
    Ask { stream: u8 },
    Transmit,
}

fn name(id: u8) -> String {
    format!("s{}", id % 6)
}

target!(|acts: Vec<Act<'_>>| {
    let limits = RelayLimits { streams: LIMITS, queued_bytes: 300, ..RelayLimits::default() };
    let mut streams = ExecutorStreams::plain(limits);
    let (mut ever, mut alive): (Vec<StreamKey>, HashSet<StreamKey>) = Default::default();
    let now = Instant::now();
    for act in acts {
        let mut take = |message| streams.receive(now, message);
        let key = |stream: u8| ever.get(usize::from(stream) % ever.len().max(1)).copied();
        match act {
            Act::Raw(bytes) => take(Bytes::copy_from_slice(bytes)),
            Act::Data { id, seq, payload } => take(codex_fuzz::data_frame(&name(id), seq, payload)),
            Act::Message { id, seq } => {
                take(codex_fuzz::data_frame(&name(id), seq, br#"{"id":1,"method":"m"}"#))
            }
            Act::Reset { id } => take(frame::reset(&name(id), "over")),
            Act::Ack { id, ack } => take(frame::ack(&name(id), ack)),
            Act::Idle { id } => take(frame::resume(&name(id))),
            Act::Send { stream, length } => {
                let Some(key) = key(stream) else { continue };
                let room = streams.has_room(key);
                let sent = streams.send(key, vec![b'x'; length.into()].into());
                assert!(!room || sent.is_ok(), "a stream with room takes a message: {sent:?}");
                assert!(alive.contains(&key) || sent == Err(SendError::Ended));
            }
            Act::Close { stream } => {
                let Some(key) = key(stream) else { continue };
                streams.close(key);
                alive.remove(&key);
            }
            Act::Ask { stream } => {
                let Some(key) = key(stream) else { continue };
                assert!(streams.ask(key).is_none() || alive.contains(&key));
            }
            Act::Transmit => {
                let waits = streams.has_transmit();
                let frame = streams.next_transmit();
                assert_eq!(waits, frame.is_some());
                let frame = frame.map(|frame| frame::parse(frame, 64).expect("what is sent is a frame").body);
                assert!(matches!(frame, None | Some(Body::Data { .. })), "{frame:?}");
            }
        }
        while let Some(event) = streams.next_event() {
            match event {
                RelayEvent::Opened { stream, .. } => {
                    assert!(!ever.contains(&stream) && alive.insert(stream), "a key is used once");
                    ever.push(stream);
                }
                RelayEvent::Message { stream, message } => {
                    assert!(alive.contains(&stream) && message.starts_with(b"{") || !message.is_empty());
                }
                RelayEvent::Room { stream } | RelayEvent::Acked { stream, .. } => {
                    assert!(alive.contains(&stream))
                }
                RelayEvent::Closed { stream } => assert!(alive.remove(&stream), "closed once, and not by us"),
                RelayEvent::Validate(_) => panic!("a plain relay has no handshake"),
            }
        }
        assert!(alive.len() <= LIMITS);
    }
});
