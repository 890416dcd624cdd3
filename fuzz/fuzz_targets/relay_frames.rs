//! Relay frames (remote.md 4): the executor's reader, the rendezvous' scan of the header, and protobuf itself agree.
#![cfg_attr(fuzzing, no_main)]

use bytes::Bytes;
use codex_exec_protocol::relay::RelayMessageFrame;
use codex_fuzz::target;
use codex_relay::frame::{self, Body};
use prost::Message as _;

const LONGEST_STREAM_ID: usize = 64;

target!(|input: &[u8]| {
    let message = Bytes::copy_from_slice(input);
    let whole = RelayMessageFrame::decode(message.clone()).ok();
    let header = codex_relay::header::scan(input);
    if let Some(whole) = &whole {
        let header = header.expect("the scan takes what protobuf takes");
        assert_eq!((header.version, header.stream_id), (whole.version, whole.stream_id.as_str()));
        assert_eq!(header.body.is_some(), whole.body.is_some());
    }
    let Ok(read) = frame::parse(message, LONGEST_STREAM_ID) else { return };
    let header = header.expect("a frame has a header");
    assert!(header.is_routable() && header.stream_id == read.stream_id);
    assert!(!read.stream_id.trim().is_empty() && read.stream_id.len() <= LONGEST_STREAM_ID);
    let again = match &read.body {
        Body::Data { seq, payload } => codex_fuzz::data_frame(&read.stream_id, *seq, payload),
        Body::Handshake(payload) => frame::handshake(&read.stream_id, payload.clone()),
        Body::Reset(reason) => frame::reset(&read.stream_id, reason),
        Body::Ack(seq) => frame::ack(&read.stream_id, *seq),
        Body::Heartbeat => frame::heartbeat(&read.stream_id),
        Body::Idle => frame::resume(&read.stream_id),
    };
    assert_eq!(frame::parse(again, LONGEST_STREAM_ID).as_ref(), Ok(&read));
});
