//! The rules of ownership, without sockets.

use codex_exec_protocol::relay::{RelayData, RelayMessageFrame, relay_message_frame::Body};
use prost::Message;

use super::*;
use crate::limits::Limits;
use crate::outlet::{Budget, Next};
use crate::quota::Quota;

fn outlet() -> Arc<Outlet> {
    Outlet::new(
        &Limits::default().with(|limits| limits.queues.queue_bytes = 2000),
        Arc::new(Budget::new(usize::MAX)),
    )
}

pub(super) fn socket(outlet: &Arc<Outlet>, streams: usize) -> HarnessSocket {
    HarnessSocket {
        outlet: Arc::clone(outlet),
        streams: Quota::new(100),
        socket_streams: streams,
        stream_id_bytes: 100,
    }
}

pub(super) fn data(stream_id: &str, text: &str) -> Bytes {
    let data = RelayData { seq: 0, segment_index: 0, segment_count: 1, payload: text.to_owned().into() };
    RelayMessageFrame {
        version: 1,
        stream_id: stream_id.to_owned(),
        body: Some(Body::Data(data)),
        ..RelayMessageFrame::default()
    }
    .encode_to_vec()
    .into()
}

/// What waits in an outlet: stream id, and the data's text or `reset`.
pub(super) fn received(outlet: &Outlet) -> Vec<(String, String)> {
    std::iter::from_fn(|| outlet.try_next())
        .map(|next| {
            let Next::Frame(queued) = next else { panic!("not a frame") };
            let frame = RelayMessageFrame::decode(queued.frame).unwrap();
            let text = match frame.body.unwrap() {
                Body::Data(data) => String::from_utf8(data.payload.to_vec()).unwrap(),
                Body::Reset(reset) => {
                    assert!(!reset.reason.is_empty());
                    "reset".to_owned()
                }
                other => panic!("{other:?}"),
            };
            (frame.stream_id, text)
        })
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect()
}

fn is_dropped(passed: Passed, why: Dropped) {
    assert!(matches!(&passed, Passed::Dropped(dropped) if *dropped == why), "{passed:?}");
}

fn is_sent(passed: Passed) {
    assert!(matches!(passed, Passed::Sent), "{passed:?}");
}

struct Setup {
    switch: InProcess,
    executor: Arc<Outlet>,
    executor_port: Box<dyn Port>,
    outlets: [Arc<Outlet>; 2],
    ports: [Option<Box<dyn Port>>; 2],
}

fn setup() -> Setup {
    let switch = InProcess::new();
    let executor = outlet();
    let executor_port = switch.attach_executor("r", Arc::clone(&executor));
    let outlets = [outlet(), outlet()];
    let ports = [0, 1].map(|at| switch.attach_harness("r", socket(&outlets[at], 3)));
    Setup { switch, executor, executor_port, outlets, ports }
}

impl Setup {
    fn send(&self, harness: usize, frame: Bytes) -> Passed {
        self.ports[harness].as_ref().unwrap().pass(frame)
    }
}

#[test]
fn frames_reach_the_executor_and_answers_the_stream_s_owner_only() {
    let s = setup();
    is_sent(s.send(0, data("A", "from 0")));
    is_sent(s.send(1, data("B", "from 1")));
    is_dropped(s.send(1, data("A", "forged")), Dropped::ForeignStream);
    is_dropped(s.send(1, frame::reset("A", "forged")), Dropped::ForeignStream);
    assert_eq!(received(&s.executor), pairs(&[("A", "from 0"), ("B", "from 1")]));
    is_sent(s.executor_port.pass(data("A", "to 0")));
    is_sent(s.executor_port.pass(data("B", "to 1")));
    is_dropped(s.executor_port.pass(data("C", "to nobody")), Dropped::NoOwner);
    assert_eq!(received(&s.outlets[0]), pairs(&[("A", "to 0")]));
    assert_eq!(received(&s.outlets[1]), pairs(&[("B", "to 1")]));
}

#[test]
fn a_reset_from_either_side_frees_the_id() {
    let s = setup();
    is_sent(s.send(0, data("A", "1")));
    is_sent(s.send(0, frame::reset("A", "done")));
    is_sent(s.send(1, data("A", "2")));
    is_sent(s.executor_port.pass(data("A", "to 1")));
    is_sent(s.executor_port.pass(frame::reset("A", "no")));
    is_sent(s.send(0, data("A", "3")));
    assert_eq!(received(&s.executor), pairs(&[("A", "1"), ("A", "reset"), ("A", "2"), ("A", "3")]));
    assert_eq!(received(&s.outlets[1]), pairs(&[("A", "to 1"), ("A", "reset")]));
    assert!(received(&s.outlets[0]).is_empty());
}

#[test]
fn a_reset_without_a_reason_frees_nothing() {
    let s = setup();
    is_sent(s.send(0, data("A", "1")));
    is_sent(s.send(0, frame::reset("A", "")));
    is_dropped(s.send(1, data("A", "2")), Dropped::ForeignStream);
}

#[test]
fn a_harness_that_goes_is_reset_on_each_of_its_streams_even_when_the_executor_s_queue_is_full() {
    let mut s = setup();
    is_sent(s.send(0, data("A", "1")));
    is_sent(s.send(0, data("B", "2")));
    is_sent(s.send(1, data("C", &"x".repeat(1700))));
    assert!(matches!(s.send(1, data("C", &"x".repeat(500))), Passed::Full { shared: false, .. }));
    s.ports[0] = None;
    let mut arrived = received(&s.executor);
    let mut resets = arrived.split_off(3);
    resets.sort();
    assert_eq!(resets, pairs(&[("A", "reset"), ("B", "reset")]));
    is_dropped(s.executor_port.pass(data("A", "late")), Dropped::NoOwner);
}

#[tokio::test]
async fn an_executor_that_goes_takes_its_harnesses_along() {
    let Setup { switch, executor_port, outlets, ports, .. } = setup();
    assert!(switch.is_attached("r"));
    drop(executor_port);
    assert!(!switch.is_attached("r"));
    assert_eq!(outlets[0].closed().await, Closing::ExecutorGone);
    assert_eq!(outlets[1].closed().await, Closing::ExecutorGone);
    is_dropped(ports[0].as_ref().unwrap().pass(data("A", "1")), Dropped::Gone);
    assert!(switch.attach_harness("r", socket(&outlet(), 3)).is_none());
}

#[tokio::test]
async fn a_newer_executor_takes_over_and_the_older_port_harms_it_not() {
    let s = setup();
    let newer = outlet();
    let newer_port = s.switch.attach_executor("r", Arc::clone(&newer));
    assert_eq!(s.executor.closed().await, Closing::Superseded);
    assert_eq!(s.outlets[0].closed().await, Closing::ExecutorGone);
    let late = outlet();
    let late_port = s.switch.attach_harness("r", socket(&late, 3)).unwrap();
    drop(s.executor_port);
    drop(s.ports);
    assert!(s.switch.is_attached("r") && !late.is_closing());
    is_sent(late_port.pass(data("A", "1")));
    is_sent(newer_port.pass(data("A", "2")));
    assert_eq!((received(&newer), received(&late)), (pairs(&[("A", "1")]), pairs(&[("A", "2")])));
    s.switch.close("r", Closing::Draining);
    assert_eq!(newer.closed().await, Closing::Draining);
    assert!(!s.switch.is_attached("r"));
}

#[test]
fn a_stream_too_many_is_reset_and_one_with_a_long_id_dropped() {
    let s = setup();
    for id in ["A", "B", "C"] {
        is_sent(s.send(0, data(id, "1")));
    }
    is_dropped(s.send(0, data("D", "1")), Dropped::TooManyStreams);
    assert_eq!(received(&s.outlets[0]), pairs(&[("D", "reset")]));
    is_dropped(s.send(1, data(&"x".repeat(101), "1")), Dropped::LongStreamId);
    is_sent(s.send(0, frame::reset("A", "done")));
    is_sent(s.send(0, data("D", "2")));
}

#[test]
fn the_streams_of_a_token_are_counted_over_its_sockets() {
    let switch = InProcess::new();
    let executor = outlet();
    let _port = switch.attach_executor("r", executor);
    let streams = Quota::new(1);
    let harness = || {
        let socket = HarnessSocket { streams: Arc::clone(&streams), ..socket(&outlet(), 3) };
        switch.attach_harness("r", socket).unwrap()
    };
    let (first, second) = (harness(), harness());
    is_sent(first.pass(data("A", "1")));
    is_dropped(second.pass(data("B", "1")), Dropped::TooManyStreams);
    drop(first);
    is_sent(second.pass(data("B", "1")));
}

#[test]
fn what_is_no_frame_is_dropped_in_both_directions() {
    let s = setup();
    for bytes in [&b""[..], b"\x08\x02\x12\x01A\x3a\x00", b"\xff\xff", b"\x08\x01\x12\x01 \x3a\x00"] {
        is_dropped(s.send(0, Bytes::from_static(bytes)), Dropped::Malformed);
        is_dropped(s.executor_port.pass(Bytes::from_static(bytes)), Dropped::Malformed);
    }
}

#[test]
fn junk_handshakes_stop_the_socket_that_makes_them_and_no_other() {
    let s = setup();
    let handshake = |id: &str| frame::handshake(id, Bytes::from_static(b"junk"));
    for _ in 0..8 {
        is_sent(s.send(0, handshake("A")));
        is_sent(s.executor_port.pass(frame::reset("A", "noise_relay_protocol_error")));
        // What is answered and then ends is no failure.
        is_sent(s.send(1, handshake("B")));
        is_sent(s.executor_port.pass(handshake("B")));
        is_sent(s.executor_port.pass(frame::reset("B", "done")));
        while s.executor.try_next().is_some() {}
        while s.outlets.iter().any(|outlet| outlet.try_next().is_some()) {}
    }
    is_dropped(s.send(0, handshake("A")), Dropped::FailedHandshakes);
    assert_eq!(received(&s.outlets[0]), pairs(&[("A", "reset")]));
    is_sent(s.send(1, handshake("B")));
    is_sent(s.send(0, data("C", "a plain stream needs no handshake")));
}
