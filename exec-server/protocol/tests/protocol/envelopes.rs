//! Section 4: the envelope, what is malformed, and methods without params.

use codex_exec_protocol::encode::NoParams;
use codex_exec_protocol::{ErrorCode, Incoming, RequestId};
use proptest::prelude::*;

use crate::recorded;

const HANDSHAKE: &str = include_str!("../../../../tests/vectors/handshake.0.169.0.jsonl");

#[test]
fn recorded_malformed_messages_are_told_from_good_ones() {
    let lines: Vec<_> = recorded::lines(HANDSHAKE).filter(|line| line["case"] == "malformed").collect();
    let mut compared = 0;
    for (at, line) in lines.iter().enumerate() {
        if line["dir"] != "c2s" || !matches!(line["kind"].as_str(), Some("text" | "binary")) {
            continue;
        }
        let answer = &lines[at + 1];
        assert_eq!(answer["dir"], "s2c");
        let text = line["data"].as_str().unwrap();
        let parsed = Incoming::parse(text.as_bytes());
        if answer["data"]["id"] == -1 {
            assert_eq!(parsed.unwrap_err().code, ErrorCode::INVALID_REQUEST, "{text}");
        } else {
            let Ok(Incoming::Request { id, .. }) = parsed else { panic!("no request: {text}") };
            assert_eq!(serde_json::to_value(&id).unwrap(), answer["data"]["id"], "{text}");
        }
        compared += 1;
    }
    assert!(compared >= 19, "only {compared} messages compared");
}

#[derive(Debug, PartialEq)]
enum Kind {
    Request,
    Notification,
    Answer,
    Failure,
    Malformed,
}

fn kind(message: &[u8]) -> Kind {
    match Incoming::parse(message) {
        Ok(Incoming::Request { .. }) => Kind::Request,
        Ok(Incoming::Notification { .. }) => Kind::Notification,
        Ok(Incoming::Answer { .. }) => Kind::Answer,
        Ok(Incoming::Failure { .. }) => Kind::Failure,
        Err(error) => {
            assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
            Kind::Malformed
        }
    }
}

#[test]
fn a_message_is_what_its_members_say() {
    for (message, expected) in [
        (&br#"{"id":1,"method":"m"}"#[..], Kind::Request),
        (br#"  {"method":"m","id":"x","params":[1],"more":{}} "#, Kind::Request),
        (br#"{"id":-9223372036854775808,"method":"m"}"#, Kind::Request),
        (br#"{"id":0,"method":"","params":null,"trace":null}"#, Kind::Request),
        (br#"{"id":0,"method":"m","trace":{"traceparent":"x","other":1}}"#, Kind::Request),
        (br#"{"id":0,"method":"a\"b","jsonrpc":{"any":[1]}}"#, Kind::Request),
        (br#"{"method":"m"}"#, Kind::Notification),
        (br#"{"id":1,"result":null}"#, Kind::Answer),
        (br#"{"id":1,"error":{"code":-1,"message":"x","data":1}}"#, Kind::Failure),
        (br#"{"method":5}"#, Kind::Malformed),
        (br#"{"id":null,"method":"m"}"#, Kind::Malformed),
        (br#"{"id":1.5,"method":"m"}"#, Kind::Malformed),
        (br#"{"id":1.0,"method":"m"}"#, Kind::Malformed),
        (br#"{"id":true,"method":"m"}"#, Kind::Malformed),
        (br#"{"id":9223372036854775808,"method":"m"}"#, Kind::Malformed),
        (br#"{"id":1,"method":"m","trace":5}"#, Kind::Malformed),
        (br#"{"id":1,"method":"m","trace":"x"}"#, Kind::Malformed),
        (br#"{"id":1,"method":"m","trace":[]}"#, Kind::Malformed),
        (br#"{"id":1,"method":"m","trace":{"traceparent":5}}"#, Kind::Malformed),
        (br#"{"id":1}"#, Kind::Malformed),
        (br#"{"result":1}"#, Kind::Malformed),
        (br#"{"id":1,"error":5}"#, Kind::Malformed),
        (b"{}", Kind::Malformed),
        (b"[]", Kind::Malformed),
        (b"", Kind::Malformed),
        (b" \n", Kind::Malformed),
        (b"{} {}", Kind::Malformed),
        (b"\xff\xfe", Kind::Malformed),
        (b"{\"id\":1,\"method\":\"\xff\"}", Kind::Malformed),
    ] {
        assert_eq!(kind(message), expected, "{}", String::from_utf8_lossy(message));
    }
}

#[test]
fn names_and_params_come_out_as_they_went_in() {
    let Ok(Incoming::Request { id, method, params, .. }) =
        Incoming::parse(br#"{"params": {"a" : [1,2]} ,"id":"7","method":"p\u002Fq"}"#)
    else {
        panic!("no request")
    };
    assert_eq!((id, method.as_ref(), params), (RequestId::Text("7".into()), "p/q", r#"{"a" : [1,2]}"#));
    let Ok(Incoming::Notification { params, .. }) = Incoming::parse(br#"{"method":"m"}"#) else {
        panic!("none")
    };
    assert_eq!(params, "null");
}

#[test]
fn a_message_nested_beyond_reason_does_no_harm() {
    let deep = "[".repeat(200_000);
    assert_eq!(kind(format!(r#"{{"id":1,"method":"m","params":{deep}"#).as_bytes()), Kind::Malformed);
    let closed = format!(r#"{{"id":1,"method":"m","params":{deep}{}}}"#, "]".repeat(200_000));
    // Raw params are not built, so their depth costs nothing yet.
    let _ = kind(closed.as_bytes());
}

#[test]
fn methods_without_params_take_null_or_an_empty_object_only() {
    for (json, fine) in [
        ("null", true),
        ("{}", true),
        (" { } ", true),
        ("[]", false),
        ("5", false),
        ("\"\"", false),
        ("false", false),
        (r#"{"a":1}"#, false),
        (r#"{"a":null}"#, false),
    ] {
        assert_eq!(serde_json::from_str::<NoParams>(json).is_ok(), fine, "{json}");
    }
}

/// Members in the shape of an envelope, often with odd values.
fn members() -> impl Strategy<Value = String> {
    let name = prop_oneof!["id", "method", "params", "result", "error", "trace", "jsonrpc", "[a-z]{0,3}"];
    let value = prop_oneof![
        "null|true|5|-1|1.5|1e400|99999999999999999999",
        "\"[a-z\\\\]{0,4}\"",
        "\\[[0-9]?\\]|\\{\\}",
        Just(r#"{"code":-1,"message":"m"}"#.to_owned()),
    ];
    proptest::collection::vec((name, value), 0..5).prop_map(|pairs| {
        let members: Vec<String> = pairs.into_iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_envelope_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = kind(&bytes);
    }

    #[test]
    fn no_members_make_the_envelope_panic(message in members()) {
        let _ = kind(message.as_bytes());
    }
}
