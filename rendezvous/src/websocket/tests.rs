//! The reader and the writer against tungstenite, and frames that must be refused.

use std::io::Cursor;

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::limits::Limits;
use crate::outlet::{Budget, Outlet};

fn block_on<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0usize..200, 60_000usize..70_000, 0usize..5000], 0..8)
}

fn payload(size: usize) -> Bytes {
    (0..size).map(|at| (at * 31 + size) as u8).collect::<Vec<_>>().into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_tungstenite_sends_is_read(sizes in sizes(), buffer in 1usize..9000) {
        block_on(async {
            let (ours, theirs) = duplex(buffer);
            let sent = sizes.clone();
            let client = async move {
                let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
                use futures_util::SinkExt;
                for size in sent {
                    client.feed(Message::Binary(payload(size))).await.unwrap();
                }
                client.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
                client
            };
            let server = async {
                let mut reader = Reader::new(ours, 100_000);
                for size in &sizes {
                    assert_eq!(reader.next().await.unwrap(), ClientMessage::Binary(payload(*size)));
                }
                assert_eq!(reader.next().await.unwrap(), ClientMessage::Ping(Bytes::from_static(b"?")));
            };
            tokio::join!(client, server);
        });
    }

    #[test]
    fn what_a_batch_writes_is_read_by_tungstenite(sizes in sizes(), steps in prop::collection::vec(1usize..70_000, 1..9)) {
        let outlet = Outlet::new(&Limits::default(), std::sync::Arc::new(Budget::new(usize::MAX)));
        for size in &sizes {
            outlet.try_push(payload(*size)).unwrap();
        }
        outlet.pong(Bytes::from_static(b"!"));
        let mut batch = Batch::default();
        while let Some(next) = outlet.try_next() {
            batch.add(next);
        }
        batch.add_close(Some((1012, "bye")));
        let mut wire = Vec::new();
        let mut steps = steps.into_iter().cycle();
        while batch.has_remaining() {
            let mut slices = [std::io::IoSlice::new(&[]); 7];
            let filled = batch.chunks_vectored(&mut slices);
            let here: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            let step = steps.next().unwrap().min(here.len());
            wire.extend_from_slice(&here[..step]);
            batch.advance(step);
        }
        outlet.written(&batch.take_done());
        block_on(async {
            use futures_util::StreamExt;
            let stream = Wire(Cursor::new(wire));
            let mut client = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
            assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"!")));
            for size in &sizes {
                assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(payload(*size)));
            }
            let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else { panic!("no close") };
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1012, "bye"));
        });
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        block_on(async {
            let mut reader = Reader::new(&bytes[..], 64);
            while reader.next().await.is_ok() {}
        });
    }
}

/// Recorded bytes as a connection; what is written to it is forgotten.
struct Wire(Cursor<Vec<u8>>);

impl tokio::io::AsyncRead for Wire {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Wire {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// A masked frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

async fn read_all(wire: &[u8]) -> (Vec<ClientMessage>, ReadError) {
    let mut reader = Reader::new(wire, 10);
    let mut events = Vec::new();
    loop {
        match reader.next().await {
            Ok(event) => events.push(event),
            Err(error) => return (events, error),
        }
    }
}

#[tokio::test]
async fn fragments_become_one_message_and_control_frames_may_come_between() {
    let wire =
        [frame(0x02, b"ab"), frame(0x89, b"?"), frame(0x00, b"cd"), frame(0x80, b"e"), frame(0x81, b"t")];
    let (events, _) = read_all(&wire.concat()).await;
    let expected = [
        ClientMessage::Ping(Bytes::from_static(b"?")),
        ClientMessage::Binary(Bytes::from_static(b"abcde")),
        ClientMessage::Text,
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn what_the_rfc_forbids_is_refused() {
    for (wire, why) in [
        (frame(0xc2, b"x"), "extension"),
        (frame(0x83, b"x"), "reserved opcode"),
        (frame(0x09, b"x"), "control frame"),
        (frame(0x80, b"x"), "without a message"),
        ([frame(0x02, b"x"), frame(0x82, b"y")].concat(), "inside a fragmented"),
        (vec![0x82, 1, b'x'], "masked"),
        (frame(0x82, b"12345678901"), "more than 10 bytes"),
        ([frame(0x02, b"12345678"), frame(0x80, b"123")].concat(), "more than 10 bytes"),
        ([&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(), "more than 10 bytes"),
        (frame(0x82, b"x")[..5].to_vec(), "without a close"),
    ] {
        let (events, error) = read_all(&wire).await;
        assert!(events.is_empty() && error.to_string().contains(why), "{why}: {error}");
    }
}

#[tokio::test]
async fn half_read_messages_survive_a_reader_that_stops_waiting() {
    let (ours, mut theirs) = duplex(64);
    let mut reader = Reader::new(ours, 100);
    for byte in frame(0x82, b"slowly") {
        assert!(futures_util::FutureExt::now_or_never(reader.next()).is_none());
        theirs.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(reader.next().await.unwrap(), ClientMessage::Binary(Bytes::from_static(b"slowly")));
}

#[tokio::test]
async fn a_close_follows_the_frame_that_has_begun_and_drops_the_rest() {
    let outlet = Outlet::new(&Limits::default(), std::sync::Arc::new(Budget::new(usize::MAX)));
    for text in ["first", "second"] {
        outlet.try_push(Bytes::from_static(text.as_bytes())).unwrap();
    }
    let mut batch = Batch::default();
    while let Some(next) = outlet.try_next() {
        batch.add(next);
    }
    batch.advance(3);
    batch.keep_begun();
    batch.add_close(Some((1000, "")));
    let (mut wire, mut sink) = duplex(100);
    sink.write_all_buf(&mut batch).await.unwrap();
    drop(sink);
    let mut bytes = Vec::new();
    wire.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"irst\x88\x02\x03\xe8");
}
