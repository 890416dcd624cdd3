//! What clients send, in any pieces, against the events it must give.

use std::io::Cursor;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

fn limits(frame: usize, message: usize, line: usize) -> Limits {
    Limits::default().with(|limits| {
        limits.transport.frame_bytes = frame;
        limits.transport.message_bytes = message;
        limits.transport.line_bytes = line;
    })
}

/// A client's frame: first byte, masked payload, the shortest length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0xa5, 0x00, 0xff];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// All events as text, up to the end or the error, which stands last.
async fn events(mut reader: MessageReader) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let text = match reader.next().await {
            Ok(PeerEvent::End) => return all,
            Ok(event) => format!("{event:?}"),
            Err(error) => format!("{error}"),
        };
        all.push(text);
    }
}

/// Sends the bytes in pieces of these sizes, repeated; each is read before the next is sent.
fn pieces(bytes: Vec<u8>, sizes: Vec<usize>) -> impl AsyncRead + Send + Unpin + 'static {
    let (mut near, far) = tokio::io::duplex(sizes.iter().copied().max().unwrap_or(1).max(1));
    tokio::spawn(async move {
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            let (part, left) = rest.split_at((*size).clamp(1, rest.len().max(1)).min(rest.len()));
            if part.is_empty() || near.write_all(part).await.is_err() {
                break;
            }
            rest = left;
        }
    });
    far
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[tokio::test]
async fn fragments_are_joined_and_control_frames_come_between() {
    let wire = [
        frame(0x01, b"he"),
        frame(0x89, b"ping"),
        frame(0x00, b"ll"),
        frame(0x8a, b""),
        frame(0x80, b"o"),
        frame(0x82, b"\xff\x00"),
        frame(0x01, b""),
        frame(0x80, b""),
        frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
        frame(0x81, b"after the close"),
    ]
    .concat();
    let expected: Vec<String> = [
        PeerEvent::Ping(b"ping"),
        PeerEvent::Pong(b""),
        PeerEvent::Message(b"hello"),
        PeerEvent::Message(b"\xff\x00"),
        PeerEvent::Message(b""),
        PeerEvent::Close(Some(1000)),
    ]
    .iter()
    .map(|event| format!("{event:?}"))
    .collect();
    for size in [1, 2, 3, 7, 64, 4096] {
        let read = pieces(wire.clone(), vec![size]);
        assert_eq!(events(MessageReader::web_socket(read, Vec::new(), &Limits::default())).await, expected);
    }
    for already in 0..wire.len() {
        let (first, rest) = wire.split_at(already);
        let reader =
            MessageReader::web_socket(Cursor::new(rest.to_vec()), first.to_vec(), &Limits::default());
        assert_eq!(events(reader).await, expected, "{already} bytes came with the upgrade");
    }
}

#[tokio::test]
async fn what_a_client_may_not_send_is_a_protocol_error() {
    let mut unmasked = frame(0x81, b"x");
    unmasked[1] &= 0x7f;
    for (wire, part) in [
        (unmasked, "masked"),
        (frame(0xc1, b"x"), "reserved bit"),
        (frame(0xa1, b"x"), "reserved bit"),
        (frame(0x91, b"x"), "reserved bit"),
        (frame(0x83, b"x"), "reserved opcode"),
        (frame(0x8b, b"x"), "reserved opcode"),
        (frame(0x80, b"x"), "continuation"),
        ([frame(0x01, b"x"), frame(0x81, b"y")].concat(), "inside a fragmented"),
        (frame(0x09, b"x"), "fragmented control"),
        (frame(0x89, &[0; 126]), "more than 125"),
        (frame(0x88, b"x"), "half a code"),
        (frame(0x81, b"\xff"), "UTF-8"),
        ([frame(0x01, "é".as_bytes().split_at(1).0), frame(0x80, b"x")].concat(), "UTF-8"),
    ] {
        let mut reader = MessageReader::web_socket(Cursor::new(wire), Vec::new(), &Limits::default());
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, ReadError::Protocol(_)) && error.to_string().contains(part), "{error}");
        assert_eq!(reader.next().await.unwrap(), PeerEvent::End);
    }
}

#[tokio::test]
async fn a_character_split_over_fragments_is_whole_again() {
    let (first, second) = "é".as_bytes().split_at(1);
    let wire = [frame(0x01, first), frame(0x80, second)].concat();
    let mut reader = MessageReader::web_socket(Cursor::new(wire), Vec::new(), &Limits::default());
    assert_eq!(reader.next().await.unwrap(), PeerEvent::Message("é".as_bytes()));
}

#[tokio::test]
async fn frame_and_message_limits_are_exact_to_the_byte() {
    let limits = limits(1000, 2500, 0);
    for (sizes, what) in [
        (vec![1000], None),
        (vec![1001], Some("websocket frame")),
        (vec![1000, 1000, 500], None),
        (vec![1000, 1000, 501], Some("websocket message")),
    ] {
        let last = sizes.len() - 1;
        let wire: Vec<u8> = sizes
            .iter()
            .enumerate()
            .flat_map(|(i, size)| {
                let first = if i == last { 0x80 } else { 0 } | if i == 0 { 2 } else { 0 };
                frame(first, &vec![b'x'; *size])
            })
            .collect();
        let mut reader = MessageReader::web_socket(Cursor::new(wire), Vec::new(), &limits);
        match (reader.next().await, what) {
            (Ok(PeerEvent::Message(message)), None) => assert_eq!(message.len(), sizes.iter().sum::<usize>()),
            (Err(ReadError::TooLarge { what, .. }), Some(expected)) => assert_eq!(what, expected),
            (other, _) => panic!("{sizes:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_default_limits_are_those_of_the_released_programs() {
    let limits = Limits::default();
    let mib = 1 << 20;
    let fragment = frame(0x02, &vec![b'x'; 16 * mib]);
    let middle = frame(0x00, &vec![b'x'; 16 * mib]);
    let wire = |last: usize| {
        let last = frame(0x80, &vec![b'x'; last]);
        [&fragment[..], &middle[..], &middle[..], &last[..]].concat()
    };
    let mut reader = MessageReader::web_socket(Cursor::new(wire(16 * mib)), Vec::new(), &limits);
    assert!(matches!(reader.next().await, Ok(PeerEvent::Message(message)) if message.len() == 64 * mib));
    let over = [&fragment[..], &middle[..], &middle[..], &middle[..], &frame(0x80, b"x")[..]].concat();
    let mut reader = MessageReader::web_socket(Cursor::new(over), Vec::new(), &limits);
    assert!(matches!(reader.next().await, Err(ReadError::TooLarge { limit: 67_108_864, .. })));
    let mut reader = MessageReader::web_socket(Cursor::new(wire(16 * mib + 1)), Vec::new(), &limits);
    assert!(matches!(reader.next().await, Err(ReadError::TooLarge { limit: 16_777_216, .. })));
}

#[tokio::test]
async fn a_claimed_length_reserves_nothing() {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let mut reader = MessageReader::web_socket(far, Vec::new(), &Limits::default());
    let mut header = vec![0x82, 0xff];
    header.extend((16u64 << 20).to_be_bytes());
    header.extend([0; 4]);
    near.write_all(&header).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(20), reader.next()).await;
    assert!(waited.is_err());
    assert!(held(&reader) <= 64 << 10, "{}", held(&reader));
}

#[tokio::test]
async fn an_idle_reader_holds_no_buffer() {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let mut reader = MessageReader::lines(far, Vec::new(), &Limits::default());
    near.write_all(&[&vec![b'x'; 500_000][..], b"\n"].concat()).await.unwrap();
    assert!(matches!(reader.next().await, Ok(PeerEvent::Message(line)) if line.len() == 500_000));
    let waited = tokio::time::timeout(Duration::from_millis(20), reader.next()).await;
    assert!(waited.is_err());
    assert_eq!(held(&reader), 0);
    near.write_all(b"{}\n").await.unwrap();
    assert_eq!(reader.next().await.unwrap(), PeerEvent::Message(b"{}"));
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let wire = [frame(0x01, &[b'a'; 300]), frame(0x89, b"p"), frame(0x80, b"end")].concat();
    let (mut near, far) = tokio::io::duplex(1);
    let mut reader = MessageReader::web_socket(far, Vec::new(), &Limits::default());
    let mut seen = Vec::new();
    for byte in &wire {
        near.write_all(&[*byte]).await.unwrap();
        tokio::select! {
            biased;
            event = reader.next() => seen.push(format!("{:?}", event.unwrap())),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(near);
    seen.extend(events(reader).await);
    let whole = [&[b'a'; 300][..], b"end"].concat();
    assert_eq!(seen, [format!("{:?}", PeerEvent::Ping(b"p")), format!("{:?}", PeerEvent::Message(&whole))]);
}

#[tokio::test]
async fn lines_end_in_newlines_of_both_kinds_and_blank_ones_are_skipped() {
    let wire = b"{\"a\":1}\r\n\n   \n\t\r\n two \r\nlast";
    let expected: Vec<String> = [&b"{\"a\":1}"[..], b" two ", b"last"]
        .iter()
        .map(|line| format!("{:?}", PeerEvent::Message(line)))
        .collect();
    for size in [1, 2, 5, 100] {
        let read = pieces(wire.to_vec(), vec![size]);
        assert_eq!(events(MessageReader::lines(read, Vec::new(), &Limits::default())).await, expected);
    }
    let blank_end = MessageReader::lines(Cursor::new(b"x\n  ".to_vec()), Vec::new(), &Limits::default());
    assert_eq!(events(blank_end).await.len(), 1);
}

#[tokio::test]
async fn recorded_lines_are_told_apart() {
    let recorded =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/stdio.0.169.0.jsonl");
    let wire: String = std::fs::read_to_string(recorded)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["dir"] == "c2s")
        .map(|line| line["data"].as_str().unwrap().to_owned())
        .collect();
    let mut reader =
        MessageReader::lines(pieces(wire.into_bytes(), vec![13]), Vec::new(), &Limits::default());
    let mut ids = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            PeerEvent::Message(line) => {
                let json: Option<serde_json::Value> = serde_json::from_slice(line).ok();
                ids.push(json.map_or(-1, |json| json["id"].as_i64().unwrap_or(0)));
            }
            PeerEvent::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ids[..], [1, 0, -1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn the_line_limit_is_exact_and_does_not_count_the_newline() {
    let limits = limits(0, 0, 10);
    for (wire, passes) in [
        ("0123456789\n", true),
        ("0123456789\r\n", true),
        ("0123456789", true),
        ("0123456789a\n", false),
        ("0123456789a\r\n", false),
        ("0123456789a", false),
        ("0123456789ab", false),
    ] {
        for size in [1, 3, 100] {
            let read = pieces(wire.as_bytes().to_vec(), vec![size]);
            let got = events(MessageReader::lines(read, Vec::new(), &limits)).await;
            let expected = if passes {
                format!("{:?}", PeerEvent::Message(b"0123456789"))
            } else {
                "line of more than 10 bytes".to_owned()
            };
            assert_eq!(got, [expected], "{wire:?} in pieces of {size}");
        }
    }
}

/// Frames of messages of awkward sizes, fragmented at will, with pings between.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    let size = prop_oneof![0usize..300, 65_530usize..65_540, 120usize..130];
    let message = (size, 1usize..5, any::<bool>());
    proptest::collection::vec(message, 1..6).prop_map(|parts| {
        let (mut wire, mut messages) = (Vec::new(), Vec::new());
        for (size, fragments, ping) in parts {
            let payload: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
            let mut chunks: Vec<&[u8]> = payload.chunks(size / fragments + 1).collect();
            if chunks.is_empty() {
                chunks.push(b"");
            }
            for (i, chunk) in chunks.iter().enumerate() {
                let last = if i + 1 == chunks.len() { 0x80 } else { 0 };
                wire.extend(frame(last | if i == 0 { 2 } else { 0 }, chunk));
                if ping {
                    wire.extend(frame(0x89, b"between"));
                }
            }
            messages.push(payload);
        }
        (wire, messages)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        (wire, messages) in conversation(),
        sizes in proptest::collection::vec(1usize..5000, 1..6),
    ) {
        let got = block_on(async {
            let mut reader = MessageReader::web_socket(pieces(wire, sizes), Vec::new(), &Limits::default());
            let mut got = Vec::new();
            loop {
                match reader.next().await.unwrap() {
                    PeerEvent::Message(message) => got.push(message.to_vec()),
                    PeerEvent::Ping(payload) => assert_eq!(payload, b"between"),
                    PeerEvent::End => return got,
                    other => panic!("{other:?}"),
                }
            }
        });
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..400)) {
        block_on(async {
            events(MessageReader::web_socket(Cursor::new(junk.clone()), Vec::new(), &Limits::default())).await;
            events(MessageReader::lines(Cursor::new(junk), Vec::new(), &limits(0, 0, 50))).await;
        });
    }
}

/// Bytes that the reader's buffer has room for.
fn held(reader: &MessageReader) -> usize {
    match &reader.intake {
        Intake::Bytes(reader) => reader.buffer.bytes.capacity(),
        Intake::Stream(_) => 0,
    }
}
