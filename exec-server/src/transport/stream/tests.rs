//! Tests of virtual streams: order, bounds, ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::transport::{FrameBuffer, PeerEvent};

const BOUNDS: StreamBounds = StreamBounds { incoming_bytes: 100, outgoing_bytes: 10, longest_message: 1000 };

fn written(parts: &[&str]) -> FrameBuffer {
    let mut buffer = FrameBuffer::new(Framing::Stream { longest_message: 1000 });
    for part in parts {
        buffer.message(part.len(), |out| out.extend_from_slice(part.as_bytes()));
    }
    buffer
}

#[tokio::test]
async fn messages_and_pings_come_out_in_order_however_they_are_cut() {
    let mut buffer = written(&["one", ""]);
    buffer.ping(b"8 bytes.");
    buffer.message(3, |out| out.extend_from_slice(b"two"));
    for step in 1..=buffer.len() {
        let bounds = StreamBounds { outgoing_bytes: 1 << 20, ..BOUNDS };
        let (mut carrier, _inlet, outlet) = stream(bounds, || {});
        for piece in buffer.bytes().chunks(step) {
            carrier.sink.write_all(piece).await.unwrap();
        }
        let items: Vec<Outbound> = std::iter::from_fn(|| outlet.take()).collect();
        let message = |text: &'static str| Outbound::Message(Bytes::from_static(text.as_bytes()));
        let ping = Outbound::Ping(Bytes::from_static(b"8 bytes."));
        assert_eq!(items, [message("one"), message(""), ping, message("two")], "in steps of {step}");
    }
}

#[tokio::test]
async fn the_server_waits_at_the_bound_and_news_is_told_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let (mut carrier, _inlet, outlet) = stream(BOUNDS, move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let buffer = written(&["0123456789"]);
    carrier.sink.write_all(buffer.bytes()).await.unwrap();
    let mut blocked = std::pin::pin!(carrier.sink.write_all(buffer.bytes()));
    let polled = futures_util::poll!(blocked.as_mut());
    assert!(polled.is_pending(), "ten bytes wait already");
    assert!(outlet.take().is_some());
    blocked.await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 2, "each time after there was nothing");
}

#[tokio::test]
async fn a_dropped_outlet_fails_the_server_and_a_dropped_inlet_is_the_end() {
    let (mut carrier, inlet, outlet) = stream(BOUNDS, || {});
    inlet.push(Bytes::from_static(b"last")).unwrap();
    inlet.pong(Bytes::from_static(b"p"));
    drop(inlet);
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::Message(b"last"));
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::Pong(b"p"));
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::End);
    drop(outlet);
    assert!(carrier.sink.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_full_inlet_gives_the_message_back_until_the_server_reads() {
    let (mut carrier, inlet, _outlet) = stream(BOUNDS, || {});
    inlet.push(Bytes::from(vec![b'x'; 500])).unwrap();
    let refused = inlet.push(Bytes::from_static(b"y")).unwrap_err();
    assert_eq!(refused, "y");
    let waiting = async {
        inlet.taken().await;
        inlet.push(refused.clone()).unwrap();
    };
    let reading = async { assert!(matches!(carrier.reader.next().await.unwrap(), PeerEvent::Message(_))) };
    tokio::join!(waiting, reading);
}

#[tokio::test]
async fn messages_and_pongs_of_no_length_are_bounded_too() {
    let bounds = StreamBounds { incoming_bytes: 64 << 10, ..BOUNDS };
    let (mut carrier, inlet, _outlet) = stream(bounds, || {});
    for _ in 0..100_000 {
        inlet.pong(Bytes::new());
    }
    let taken = (0..100_000).take_while(|_| inlet.push(Bytes::new()).is_ok()).count();
    assert!((100..1000).contains(&taken), "{taken} empty messages wait in 64 KiB");
    let (mut messages, mut pongs) = (0, 0);
    drop(inlet);
    loop {
        match carrier.reader.next().await.unwrap() {
            PeerEvent::Message(message) => messages += usize::from(message.is_empty()),
            PeerEvent::Pong(_) => pongs += 1,
            PeerEvent::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(messages, taken);
    assert!((64..1000).contains(&pongs), "{pongs} pongs");
}

#[tokio::test]
async fn a_small_message_keeps_no_large_frame() {
    let (_carrier, inlet, _outlet) = stream(StreamBounds { incoming_bytes: 1 << 20, ..BOUNDS }, || {});
    let frame = Bytes::from(vec![b'x'; 100_000]);
    inlet.push(frame.slice(99_000..)).unwrap();
    assert!(frame.is_unique(), "the queue holds the frame's memory");
}
