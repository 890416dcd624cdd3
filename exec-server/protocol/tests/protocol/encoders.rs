//! What is written by hand is what serde would have written.

use codex_exec_protocol::filesystem::ReadFileResult;
use codex_exec_protocol::http::{BodyDeltaParams, RequestResult, ResponseHeader};
use codex_exec_protocol::process::{
    Chunk, ExitDetails, Output, OutputParams, ReadResult, Stream, StreamTotals, encode_output,
};
use codex_exec_protocol::{Base64Bytes, Block, Seq, WireEncode, envelope};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::Value;

/// Compares as values, since the order of members means nothing.
fn check<T: WireEncode + Serialize>(value: &T) {
    let mut hand = b"before".to_vec();
    value.encode(&mut hand);
    let hand: Value = serde_json::from_slice(hand.strip_prefix(b"before").unwrap()).unwrap();
    assert_eq!(hand, serde_json::to_value(value).unwrap());
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr), Just(Stream::Pty)]
}

fn bytes() -> impl Strategy<Value = Base64Bytes> {
    proptest::collection::vec(any::<u8>(), 0..80).prop_map(Base64Bytes)
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let chunk = (any::<u64>(), stream(), bytes()).prop_map(|(seq, stream, chunk)| Chunk {
        seq: Seq(seq),
        stream,
        chunk,
    });
    proptest::collection::vec(chunk, 0..4)
}

proptest! {
    #[test]
    fn file_results(data in bytes(), eof: bool) {
        for eof in [None, Some(true), Some(false)] {
            check(&ReadFileResult { data: data.clone(), eof });
        }
        check(&Block { chunk: data, eof });
    }

    #[test]
    fn http_results(status: u16, name in "\\PC{0,8}", value in "\\PC{0,8}", body in bytes()) {
        let headers = vec![ResponseHeader { name: name.clone(), value: value.clone() }, ResponseHeader { name, value }];
        check(&RequestResult { status, headers, body: body.clone() });
        check(&RequestResult { status, headers: Vec::new(), body });
    }

    #[test]
    fn body_deltas(request_id in "\\PC*", seq: u64, delta in bytes(), done: bool, error in any::<Option<String>>()) {
        check(&BodyDeltaParams { request_id, seq: Seq(seq), delta, done, error });
    }

    #[test]
    fn read_results(chunks in chunks(), next_seq: u64, exit_code in any::<Option<i32>>(), closed: bool, totals: [u64; 3], next_offset: Option<u64>) {
        let [stdout, stderr, pty] = totals;
        let exit = exit_code.map(|_| ExitDetails { signal: exit_code, duration_ms: stdout, ..ExitDetails::default() });
        check(&ReadResult {
            chunks, next_seq: Seq(next_seq), exited: exit_code.is_some(), exit_code, closed, failure: None, sandbox_denied: closed,
            lost_bytes: pty, totals: StreamTotals { stdout, stderr, pty }, exit, next_offset,
            chunk_times_ms: next_offset.map(|time| vec![time, stdout]),
        });
    }

    #[test]
    fn output_notifications_are_the_same_bytes(process_id in "\\PC*", seq: u64, stream in stream(), chunk in bytes()) {
        let mut hand = Vec::new();
        encode_output(&process_id.as_str().into(), Seq(seq), stream, &chunk.0, &mut hand);
        let mut serde = Vec::new();
        envelope::notification::<Output>(&OutputParams { process_id: process_id.into(), seq: Seq(seq), stream, chunk }, &mut serde);
        prop_assert_eq!(String::from_utf8(hand).unwrap(), String::from_utf8(serde).unwrap());
    }

    #[test]
    fn base64_survives_the_wire(data in bytes()) {
        let json = serde_json::to_string(&data).unwrap();
        prop_assert_eq!(serde_json::from_str::<Base64Bytes>(&json).unwrap(), data);
    }
}

#[test]
fn base64_takes_the_standard_padded_alphabet_only() {
    for (text, fine) in [
        ("", true),
        ("aGk=", true),
        ("+/+/", true),
        ("aGk", false),
        ("-_-_", false),
        ("aGk=\n", false),
        ("a Gk=", false),
        ("@@", false),
        ("====", false),
    ] {
        assert_eq!(codex_exec_protocol::bytes::decode(text).is_ok(), fine, "{text:?}");
    }
}
