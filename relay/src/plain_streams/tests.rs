//! Every row of the table in 4.2, and fair turns.

use codex_exec_protocol::relay::relay_message_frame::Body as Wire;
use codex_exec_protocol::relay::{RelayAck, RelayData, RelayHeartbeat, RelayMessageFrame};
use prost::Message as _;

use super::*;
use crate::{HarnessStream, SendError};

const HELLO: &[u8] = br#"{"id":1,"method":"initialize"}"#;

struct Server(PlainStreams);

impl Server {
    fn new() -> Self {
        Self::with(RelayLimits::default())
    }

    fn with(limits: RelayLimits) -> Self {
        Self(PlainStreams::new(limits))
    }

    /// What one message sets off.
    fn receive(&mut self, message: impl Into<Bytes>) -> Vec<RelayEvent> {
        self.0.receive(Instant::now(), message.into());
        self.events()
    }

    fn data(&mut self, id: &str) -> Vec<RelayEvent> {
        self.receive(frame::data(id, 0, HELLO))
    }

    fn events(&mut self) -> Vec<RelayEvent> {
        std::iter::from_fn(|| self.0.open.next_event()).collect()
    }

    fn open(&mut self, id: &str) -> StreamKey {
        match self.data(id).as_slice() {
            [RelayEvent::Opened { stream, id: name }, RelayEvent::Message { stream: to, message }] => {
                assert_eq!((name.as_str(), to, &message[..]), (id, stream, HELLO));
                *stream
            }
            other => panic!("{other:?}"),
        }
    }

    fn sent(&mut self) -> Option<(String, u32, Bytes)> {
        let frame = frame::parse(self.0.next_transmit()?, 10_000).unwrap();
        match frame.body {
            Body::Data { seq, payload } => Some((frame.stream_id, seq, payload)),
            other => panic!("{other:?}"),
        }
    }
}

fn raw(stream_id: &str, version: u32, body: Option<Wire>) -> Vec<u8> {
    RelayMessageFrame { version, stream_id: stream_id.into(), body, ..Default::default() }.encode_to_vec()
}

#[test]
fn data_on_a_new_id_opens_a_connection_and_further_data_goes_to_it() {
    let mut server = Server::new();
    let stream = server.open("A");
    let message = Bytes::from_static(HELLO);
    assert_eq!(server.data("A"), [RelayEvent::Message { stream, message }]);
    let other = server.open(" A");
    assert_ne!(stream, other, "white space makes another id");
    server.open(&"x".repeat(5000));
}

#[test]
fn sequence_numbers_are_ignored_and_duplicates_are_executed_twice() {
    let mut server = Server::new();
    let stream = server.open("A");
    for seq in [0, 0, 7, 3, u32::MAX] {
        let events = server.receive(frame::data("A", seq, HELLO));
        assert_eq!(events, [RelayEvent::Message { stream, message: Bytes::from_static(HELLO) }]);
    }
}

#[test]
fn bad_frames_and_idle_frames_are_dropped_and_make_no_stream() {
    let piece = |index, count, payload: &'static [u8]| {
        let payload = Bytes::from_static(payload);
        Some(Wire::Data(RelayData { seq: 0, segment_index: index, segment_count: count, payload }))
    };
    let array: &[u8] = br#"[{"id":1,"method":"m"}]"#;
    let two: &[u8] = br#"{"id":1,"method":"m"} {"id":2,"method":"m"}"#;
    let dropped = [
        Vec::new(),
        b"text".to_vec(),
        raw("A", 0, piece(0, 1, HELLO)),
        raw("A", 2, piece(0, 1, HELLO)),
        raw("", 1, piece(0, 1, HELLO)),
        raw(" \n", 1, piece(0, 1, HELLO)),
        raw("A", 1, None),
        raw("A", 1, piece(0, 1, b"")),
        raw("A", 1, piece(0, 2, HELLO)),
        raw("A", 1, piece(1, 1, HELLO)),
        raw("A", 1, piece(0, 1, b"no json")),
        raw("A", 1, piece(0, 1, array)),
        raw("A", 1, piece(0, 1, two)),
        frame::reset("A", "").to_vec(),
        frame::reset("A", "unknown stream").to_vec(),
        frame::resume("A").to_vec(),
        frame::handshake("A", Bytes::from_static(b"hello")).to_vec(),
        raw("B", 1, Some(Wire::AckFrame(RelayAck {}))),
        raw("A", 1, Some(Wire::Heartbeat(RelayHeartbeat {}))),
    ];
    let mut server = Server::new();
    for message in dropped.clone() {
        assert_eq!(server.receive(message), []);
    }
    let stream = server.open("A");
    for message in dropped.into_iter().filter(|message| *message != frame::reset("A", "unknown stream")) {
        assert_eq!(server.receive(message), []);
    }
    assert_eq!(server.sent(), None, "nothing is ever answered");
    let spaced = [b" \n", HELLO, b"\t"].concat();
    let events = server.receive(frame::data("A", 0, &spaced));
    assert_eq!(events, [RelayEvent::Message { stream, message: spaced.into() }]);
}

#[test]
fn a_reset_ends_a_stream_and_its_id_is_fresh_again() {
    let mut server = Server::new();
    let stream = server.open("A");
    server.0.open.send(stream, Bytes::from_static(b"{}")).unwrap();
    server.sent().unwrap();
    server.0.open.send(stream, Bytes::from_static(b"{}")).unwrap();
    assert_eq!(server.receive(frame::reset("A", "bye")), [RelayEvent::Closed { stream }]);
    assert_eq!(server.sent(), None, "what was queued is gone");
    assert_eq!(server.0.open.send(stream, Bytes::from_static(b"{}")), Err(SendError::Ended));
    let again = server.open("A");
    assert_ne!(stream, again);
    server.0.open.send(again, Bytes::from_static(b"{}")).unwrap();
    assert_eq!(server.sent(), Some(("A".into(), 0, Bytes::from_static(b"{}"))));
    // What comes late for the former life does nothing.
    server.0.close(stream);
    assert!(server.0.open.has_room(again) && !server.0.open.has_room(stream));
}

#[test]
fn a_connection_that_ends_here_dies_silently_and_the_next_frame_on_its_id_is_lost() {
    let mut server = Server::new();
    let stream = server.open("A");
    server.0.open.send(stream, Bytes::from_static(b"{}")).unwrap();
    server.0.close(stream);
    assert_eq!(server.data("A"), [], "it takes no more messages while its last answers go");
    assert!(server.sent().is_some());
    assert_eq!((server.sent(), server.events()), (None, vec![]));
    assert_eq!(server.data("A"), [], "this one is lost");
    server.open("A");
    // A reset in between makes the id fresh at once.
    let stream = server.open("B");
    server.0.close(stream);
    assert_eq!(server.receive(frame::reset("B", "bye")), []);
    server.open("B");
}

#[test]
fn streams_and_remembered_deaths_are_bounded() {
    let mut server = Server::with(RelayLimits { streams: 3, ..RelayLimits::default() });
    let streams: Vec<_> = ["A", "B", "C"].iter().map(|id| server.open(id)).collect();
    assert_eq!(server.data("D"), []);
    server.0.close(streams[0]);
    server.open("D");
    for id in ["E", "F", "G"] {
        let last = server.receive(frame::reset("D", "bye"));
        assert!(last.len() <= 1);
        let stream = server.open(id);
        server.0.close(stream);
    }
    assert_eq!(server.0.dead.len(), 3);
    server.open("A");
}

#[test]
fn each_side_counts_from_zero_and_wraps() {
    let mut server = Server::new();
    let stream = server.open("A");
    server.0.open.get_mut(stream).unwrap().carrier = Sent(u32::MAX.into());
    for seq in [u32::MAX, 0, 1] {
        server.0.open.send(stream, Bytes::from_static(b"{}")).unwrap();
        assert_eq!(server.sent().unwrap().1, seq);
    }
}

#[test]
fn streams_have_turns_and_a_full_one_waits_for_room() {
    let mut server = Server::with(RelayLimits { queued_bytes: 100, ..RelayLimits::default() });
    let (a, b) = (server.open("A"), server.open("B"));
    let message = |n: u8| Bytes::from(vec![n; 30]);
    for n in 0..4 {
        server.0.open.send(a, message(n)).unwrap();
    }
    assert!(!server.0.open.has_room(a) && server.0.open.has_room(b));
    assert_eq!(server.0.open.send(a, message(9)), Err(SendError::Full(message(9))));
    server.0.open.send(b, message(5)).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| server.sent()).map(|(id, seq, _)| (id, seq)).collect();
    let expected = [("A", 0), ("B", 0), ("A", 1), ("A", 2), ("A", 3)];
    assert_eq!(order, expected.map(|(id, seq)| (id.to_owned(), seq)));
    assert_eq!(server.events(), [RelayEvent::Room { stream: a }], "told once");
    let long = Bytes::from(vec![b' '; (16 << 20) + 1]);
    assert!(matches!(server.0.open.send(b, long), Err(SendError::TooLong { .. })));
}

#[test]
fn our_harness_and_our_executor_understand_each_other() {
    let mut server = Server::new();
    let mut harness = HarnessStream::plain(StreamId::random(), RelayLimits::default());
    assert!(harness.is_open());
    harness.send(Bytes::from_static(HELLO)).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| harness.next_transmit().unwrap()).collect();
    assert_eq!(sent[0], frame::resume(harness.id().as_str()));
    assert_eq!(server.receive(sent[0].clone()), []);
    let events = server.receive(sent[1].clone());
    let [RelayEvent::Opened { stream, .. }, RelayEvent::Message { .. }] = events[..] else {
        panic!("{events:?}")
    };
    server.0.open.send(stream, Bytes::from_static(b"{}")).unwrap();
    harness.receive(frame::data("another", 0, b"x")).unwrap();
    harness.receive(server.0.next_transmit().unwrap()).unwrap();
    assert_eq!(harness.next_message(), Some(Bytes::from_static(b"{}")));
    assert_eq!(harness.next_message(), None);
    assert_eq!(server.receive(harness.goodbye()), [RelayEvent::Closed { stream }]);
}
