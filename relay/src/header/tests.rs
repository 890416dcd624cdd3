//! The scan against prost, and the captured bytes of `remote.md` 4.

use codex_exec_protocol::relay::{RelayMessageFrame, RelayReset, relay_message_frame as frame};
use proptest::prelude::*;
use prost::Message;

use super::*;

/// The outer message with bodies left as bytes: exactly what routing may look at.
#[derive(Clone, PartialEq, prost::Message)]
struct Outer {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    stream_id: String,
    #[prost(uint32, tag = "3")]
    ack: u32,
    #[prost(uint32, tag = "4")]
    ack_bits: u32,
    #[prost(oneof = "OuterBody", tags = "5, 6, 7, 8, 9, 10")]
    body: Option<OuterBody>,
    #[prost(string, optional, tag = "11")]
    traceparent: Option<String>,
    #[prost(string, optional, tag = "12")]
    tracestate: Option<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OuterBody {
    #[prost(bytes, tag = "5")]
    Data(Vec<u8>),
    #[prost(bytes, tag = "6")]
    Ack(Vec<u8>),
    #[prost(bytes, tag = "7")]
    Resume(Vec<u8>),
    #[prost(bytes, tag = "8")]
    Reset(Vec<u8>),
    #[prost(bytes, tag = "9")]
    Heartbeat(Vec<u8>),
    #[prost(bytes, tag = "10")]
    Handshake(Vec<u8>),
}

fn kind(body: &OuterBody) -> BodyKind {
    match body {
        OuterBody::Data(_) => BodyKind::Data,
        OuterBody::Ack(_) => BodyKind::Ack,
        OuterBody::Resume(_) => BodyKind::Resume,
        OuterBody::Reset(_) => BodyKind::Reset,
        OuterBody::Heartbeat(_) => BodyKind::Heartbeat,
        OuterBody::Handshake(_) => BodyKind::Handshake,
    }
}

fn check(bytes: &[u8]) {
    let scanned = scan(bytes).map(|header| (header.version, header.stream_id.to_owned(), header.body));
    let expected = Outer::decode(bytes)
        .ok()
        .map(|outer| (outer.version, outer.stream_id.clone(), outer.body.as_ref().map(kind)));
    assert_eq!(scanned, expected, "{bytes:02x?}");
    if let Ok(whole) = RelayMessageFrame::decode(bytes) {
        assert_eq!(scanned.map(|scanned| (scanned.0, scanned.1)), Some((whole.version, whole.stream_id)));
    }
}

/// Pieces that look like fields, right and wrong, so that random input gets past the first byte.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let key = (1u32..16, 0u32..8).prop_map(|(tag, wire)| vec![(tag << 3 | wire) as u8]);
    let value = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte & 0x7f]),
        prop::collection::vec(any::<u8>(), 0..12),
        "[a-zé ]{0,9}".prop_map(|text| {
            let mut field = vec![text.len() as u8];
            field.extend_from_slice(text.as_bytes());
            field
        }),
    ];
    (key, value).prop_map(|(key, value)| [key, value].concat())
}

proptest! {
    #[test]
    fn the_scan_reads_what_prost_reads(fields in prop::collection::vec(field(), 0..8)) {
        check(&fields.concat());
    }

    #[test]
    fn the_scan_reads_any_bytes_as_prost_does(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        check(&bytes);
    }

    #[test]
    fn whole_frames_are_read(
        version in any::<u32>(), stream_id in ".{0,40}", ack in any::<u32>(), seq in any::<u32>(),
        payload in prop::collection::vec(any::<u8>(), 0..300), which in 0..6,
        traceparent in prop::option::of(".{0,9}"), cut in 0usize..400,
    ) {
        let data = codex_exec_protocol::relay::RelayData { seq, segment_index: 0, segment_count: 1, payload: payload.clone().into() };
        let body = match which {
            0 => Some(frame::Body::Data(data)),
            1 => Some(frame::Body::Handshake(codex_exec_protocol::relay::RelayHandshake { payload: payload.into() })),
            2 => Some(frame::Body::Reset(RelayReset { reason: stream_id.clone() })),
            3 => Some(frame::Body::Resume(codex_exec_protocol::relay::RelayResume { next_seq: seq })),
            4 => Some(frame::Body::Heartbeat(codex_exec_protocol::relay::RelayHeartbeat {})),
            _ => None,
        };
        let whole = RelayMessageFrame { version, stream_id, ack, body, traceparent, ..RelayMessageFrame::default() };
        let bytes = whole.encode_to_vec();
        check(&bytes);
        check(&bytes[..cut.min(bytes.len())]);
    }
}

#[test]
fn captured_frames_are_read() {
    let resume = hex::decode("08011202533 13a00".replace(' ', "")).unwrap();
    let header = scan(&resume).unwrap();
    assert_eq!((header.version, header.stream_id, header.body), (1, "S1", Some(BodyKind::Resume)));
    assert!(header.is_routable() && !header.ends_stream());
    let reset = crate::frame::reset("S1", "gone");
    assert_eq!(
        reset[..],
        hex::decode("0801120253314206").unwrap().into_iter().chain(*b"\x0a\x04gone").collect::<Vec<u8>>()
    );
    assert!(scan(&reset).unwrap().ends_stream());
}

#[test]
fn frames_that_lead_nowhere_are_not_routable() {
    for (bytes, why) in [
        (&b"\x08\x02\x12\x01A\x3a\x00"[..], "version"),
        (b"\x12\x01A\x3a\x00", "no version"),
        (b"\x08\x01\x3a\x00", "no id"),
        (b"\x08\x01\x12\x02 \x09\x3a\x00", "blank id"),
        (b"\x08\x01\x12\x01A", "no body"),
        (b"", "nothing"),
    ] {
        assert!(!scan(bytes).unwrap().is_routable(), "{why}");
    }
    assert!(!scan(b"\x08\x01\x12\x01A\x42\x00").unwrap().ends_stream(), "a reset without a reason");
}

#[test]
fn deep_groups_are_refused_like_prost_refuses_them() {
    for depth in [1, 98, 99, 100, 101, 5000] {
        let mut bytes = vec![0x6b; depth];
        bytes.extend(vec![0x6c; depth]);
        check(&bytes);
    }
}
