//! Orders, gaps and recoveries of a process's events.

use proptest::prelude::*;

use super::*;
use crate::protocol::process::{Chunk, ExitDetails, Stream, StreamTotals};

fn output(text: &str) -> ProcessEvent {
    ProcessEvent::Output { stream: Stream::Stdout, bytes: text.as_bytes().to_vec() }
}

fn exited(code: i32) -> ProcessEvent {
    ProcessEvent::Exited { code, details: ExitDetails::default() }
}

fn read(
    chunks: &[(u64, &str)],
    next_seq: u64,
    exit_code: Option<i32>,
    closed: bool,
    lost_bytes: u64,
) -> ReadResult {
    let chunks = chunks
        .iter()
        .map(|(seq, text)| Chunk {
            seq: Seq(*seq),
            stream: Stream::Stdout,
            chunk: text.as_bytes().to_vec().into(),
        })
        .collect();
    ReadResult {
        chunks,
        next_seq: Seq(next_seq),
        exited: exit_code.is_some(),
        exit_code,
        closed,
        failure: None,
        sandbox_denied: false,
        lost_bytes,
        totals: StreamTotals::default(),
        exit: None,
        next_offset: None,
        chunk_times_ms: None,
    }
}

#[test]
fn recoveries_cover_every_number_or_say_what_is_lost() {
    let lost = |bytes| ProcessEvent::Lost { bytes };
    let cases = [
        ("nothing new", read(&[], 2, None, false, 0), vec![]),
        ("output", read(&[(2, "b"), (3, "c")], 4, None, false, 0), vec![output("b"), output("c")]),
        ("exit between", read(&[(3, "c")], 4, Some(7), false, 0), vec![exited(7), output("c")]),
        (
            "all of it",
            read(&[(2, "b")], 5, Some(0), true, 0),
            vec![output("b"), exited(0), ProcessEvent::Closed],
        ),
        ("evicted", read(&[(4, "d")], 5, None, false, 9), vec![lost(Some(9)), output("d")]),
        ("old server evicted", read(&[(4, "d")], 5, None, false, 0), vec![lost(None), output("d")]),
        ("a number for nothing", read(&[], 3, None, false, 0), vec![lost(None)]),
        (
            "first family: nextSeq without exit and close",
            read(&[(2, "b")], 3, Some(0), true, 0),
            vec![output("b"), exited(0), ProcessEvent::Closed],
        ),
    ];
    for (name, read, expected) in cases {
        let mut follow = Follow::default();
        let mut out = Vec::new();
        follow.accept(Seq(1), output("a"), 1 << 20, &mut out);
        follow.recover(read, &mut out);
        assert_eq!(out[1..], expected, "{name}");
    }
}

#[test]
fn a_gap_that_never_closes_is_reported_once_too_much_is_held() {
    let mut follow = Follow::default();
    let mut out = Vec::new();
    follow.accept(Seq(2), output("b"), 100, &mut out);
    assert_eq!(out, []);
    follow.accept(Seq(3), output("c"), 100, &mut out);
    assert_eq!(out, [ProcessEvent::Lost { bytes: None }, output("b"), output("c")]);
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_gives_each_event_once_in_order(
        order in Just((1..=20u64).collect::<Vec<_>>()).prop_shuffle(),
        repeats in prop::collection::vec(0..20usize, 0..20),
    ) {
        let event = |seq| match seq { 20 => ProcessEvent::Closed, 15 => exited(0), n => output(&n.to_string()) };
        let mut follow = Follow::default();
        let mut out = Vec::new();
        for (at, seq) in order.iter().enumerate() {
            follow.accept(Seq(*seq), event(*seq), 1 << 20, &mut out);
            if let Some(again) = repeats.get(at) {
                let seq = order[*again.min(&at)];
                follow.accept(Seq(seq), event(seq), 1 << 20, &mut out);
            }
        }
        prop_assert_eq!(out, (1..=20).map(event).collect::<Vec<_>>());
    }

    #[test]
    fn a_resume_beside_new_notifications_loses_and_doubles_nothing(
        cut in 0..19u64, seen_by_read in 1..=20u64, early in prop::collection::vec(1..=20u64, 0..10),
    ) {
        // Numbers 1..=18 are output, 19 the exit, 20 the close; the read tells of all up to `seen_by_read`.
        let event = |seq| match seq { 20 => ProcessEvent::Closed, 19 => exited(3), n => output(&n.to_string()) };
        let mut follow = Follow::default();
        let mut out = Vec::new();
        for seq in 1..=cut { follow.accept(Seq(seq), event(seq), 1 << 20, &mut out); }
        for seq in early.iter().filter(|seq| **seq > cut) { follow.accept(Seq(*seq), event(*seq), 1 << 20, &mut out); }
        let seen = seen_by_read.max(cut);
        let texts: Vec<_> = (cut + 1..=seen.min(18)).map(|n| (n, n.to_string())).collect();
        let chunks: Vec<_> = texts.iter().map(|(n, text)| (*n, text.as_str())).collect();
        follow.recover(read(&chunks, seen + 1, (seen >= 19).then_some(3), seen == 20, 0), &mut out);
        for seq in seen + 1..=20 { follow.accept(Seq(seq), event(seq), 1 << 20, &mut out); }
        prop_assert_eq!(out, (1..=20).map(event).collect::<Vec<_>>());
    }
}
