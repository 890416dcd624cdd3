//! A log in memory, and what is found there at any moment.

use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{LoggedExit, Stream};
use proptest::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::journal::Journal;
use super::super::layout::{Content, HEAD, get, set, word};
use super::super::replay::replay;
use super::*;

const CHUNK: usize = 4096;

fn large() -> Layout {
    Layout::new(64 << 10, 16 * ID, 1 << 10, 16 << 10)
}

fn journal(layout: Layout) -> (Journal, Memory) {
    let (memory, _) = Memory::create(layout.size()).expect("memory");
    (Journal::begin(memory.clone(), layout, None), memory)
}

/// Our end of a pipe, and the program's.
fn pipe() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::io::ioctl_fionbio(&ours, true).expect("non-blocking");
    (ours, theirs)
}

fn found(memory: &Memory) -> Found {
    replay(memory).expect("a log").1
}

fn output(found: &Found) -> Vec<u8> {
    found.output.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Print(bool, Vec<u8>),
    Evict(u64),
    Write(Vec<u8>),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), proptest::collection::vec(any::<u8>(), 1..3000)).prop_map(|(err, bytes)| Step::Print(err, bytes)),
        1 => (0_u64..4).prop_map(Step::Evict),
        1 => proptest::collection::vec(any::<u8>(), 1..200).prop_map(Step::Write),
        1 => (1_usize..100).prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn at_any_moment_all_that_is_retained_is_found(steps in proptest::collection::vec(step(), 1..80)) {
        let (mut journal, memory) = journal(large());
        let ((out, out_end), (err, err_end)) = (pipe(), pipe());
        let (mut retained, mut seq, mut free, mut total) = (Vec::new(), 0, 0, 0);
        let mut queued: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Print(to_err, bytes) => {
                    let (stream, ours, theirs) =
                        if to_err { (Stream::Stderr, &err, &err_end) } else { (Stream::Stdout, &out, &out_end) };
                    rustix::io::write(theirs, &bytes).expect("room");
                    let read = journal.read_pipe(ours, stream, CHUNK, Seq(free)).expect("kept").expect("output");
                    prop_assert_eq!(&read.bytes[..], &bytes[..]);
                    seq += 1;
                    total += bytes.len() as u64;
                    retained.push((Seq(seq), stream, bytes));
                    // As much as a log would hold.
                    while retained.iter().map(|(_, _, bytes)| bytes.len() + 64).sum::<usize>() > 24 << 10 {
                        free = retained.remove(0).0.0;
                    }
                }
                Step::Evict(count) => {
                    for _ in 0..count {
                        if retained.len() > 1 {
                            free = retained.remove(0).0.0;
                        }
                    }
                }
                Step::Write(bytes) => {
                    if queued.len() + bytes.len() <= 1 << 10 {
                        journal.accept(None, &bytes);
                        queued.extend(bytes);
                    }
                }
                Step::Take(count) => {
                    let count = count.min(queued.len());
                    journal.writes(count);
                    queued.drain(..count);
                }
            }
            let now = found(&memory);
            // What was evicted since the last piece of output may still be there.
            let expected: Vec<_> = retained.iter().filter(|(at, _, _)| *at > Seq(free)).cloned().collect();
            let there: Vec<_> = now.output.iter().filter(|(at, _, _)| *at > Seq(free)).cloned().collect();
            prop_assert_eq!(there, expected);
            prop_assert_eq!(now.last_seq, Seq(seq));
            prop_assert_eq!(now.totals.sum(), total);
            let here: u64 = now.output.iter().map(|(_, _, bytes)| bytes.len() as u64).sum();
            prop_assert_eq!(now.evicted + here, total);
            prop_assert_eq!(&now.input, &queued);
            prop_assert!(!now.input_lost && !now.given_up);
        }
    }

    #[test]
    fn whatever_stands_there_is_read_or_refused(
        ring in proptest::collection::vec(any::<u8>(), 0..4000),
        words in proptest::collection::vec((0_usize..HEAD / 8, any::<u64>(), 0_u32..60), 0..20),
    ) {
        let (_, memory) = journal(large());
        memory.put(HEAD, &ring);
        set(&memory, word::RECORDS_END, ring.len().next_multiple_of(8) as u64);
        for (at, number, shift) in words {
            set(&memory, at * 8, number >> shift);
        }
        if let Some((layout, found)) = replay(&memory) {
            let _ = Journal::resume(memory, layout, &found, None);
        }
    }
}

#[test]
fn a_read_that_nobody_lived_to_note_is_found_and_one_that_did_not_happen_is_not() {
    for length in [1, 2, 15, 16, 17, 100, 4000] {
        for happened in [true, false] {
            let (mut journal, memory) = journal(large());
            let (ours, theirs) = pipe();
            rustix::io::write(&theirs, b"noted").expect("room");
            journal.read_pipe(&ours, Stream::Stdout, CHUNK, Seq::NONE).expect("kept").expect("output");
            let text: Vec<u8> =
                (0..length).map(|at| b'a' + u8::try_from(at % 26).expect("a letter")).collect();
            rustix::io::write(&theirs, &text).expect("room");
            let place = journal.intend(Stream::Stderr, length).expect("room");
            if happened {
                let (filled, _) = rustix::io::read(&ours, memory.target(place, length)).expect("output");
                assert_eq!(filled.len(), length);
            }
            drop(journal);
            let (layout, left) = replay(&memory).expect("a log");
            let mut expected = vec![(Seq(1), Stream::Stdout, b"noted".to_vec())];
            if happened {
                expected.push((Seq(2), Stream::Stderr, text.clone()));
            }
            assert_eq!(left.output, expected, "{length} bytes, {happened}");
            // The next server goes on behind it.
            let mut next = Journal::resume(memory.clone(), layout, &left, None);
            if !happened {
                next.read_pipe(&ours, Stream::Stderr, CHUNK, Seq::NONE).expect("kept").expect("output");
            }
            rustix::io::write(&theirs, b"later").expect("room");
            next.read_pipe(&ours, Stream::Stdout, CHUNK, Seq::NONE).expect("kept").expect("output");
            let last = found(&memory);
            assert_eq!(output(&last), [b"noted", &text[..], b"later"].concat());
            assert_eq!((last.last_seq, last.totals.sum()), (Seq(3), 10 + length as u64));
        }
    }
}

#[test]
fn what_a_terminal_gave_is_found_before_it_is_output_and_once() {
    let (mut journal, memory) = journal(large());
    let (ours, theirs) = pipe();
    rustix::io::write(&theirs, b"first\x1b[").expect("room");
    let read = journal.read_terminal(&ours, CHUNK).expect("kept").expect("output");
    assert_eq!(&read.bytes[..], b"first\x1b[");
    assert_eq!(found(&memory).staged, b"first\x1b[");
    journal.append_terminal(b"first", 2, Seq::NONE);
    let left = found(&memory);
    assert_eq!((output(&left), &left.staged[..]), (b"first".to_vec(), &b"\x1b["[..]));
    // A read that nobody lived to note.
    rustix::io::write(&theirs, b"6n").expect("room");
    let place = journal.intend_terminal(100);
    rustix::io::read(&ours, memory.target(place, 100)).expect("output");
    drop(journal);
    let (layout, left) = replay(&memory).expect("a log");
    assert_eq!(left.staged, b"\x1b[6n");
    let mut next = Journal::resume(memory.clone(), layout, &left, None);
    next.append_terminal(b"then", 0, Seq::NONE);
    let left = found(&memory);
    assert_eq!((output(&left), left.staged.len()), (b"firstthen".to_vec(), 0));
}

#[test]
fn an_empty_ring_remembers_how_far_it_is() {
    let layout = Layout::new(1024, 0, 0, 0);
    let (mut journal, memory) = journal(layout);
    let (ours, theirs) = pipe();
    for seq in 1..=50 {
        rustix::io::write(&theirs, &[b'x'; 300]).expect("room");
        journal.read_pipe(&ours, Stream::Stdout, CHUNK, Seq(seq - 1)).expect("kept").expect("output");
        let left = found(&memory);
        assert_eq!((left.last_seq, left.totals.stdout), (Seq(seq), 300 * seq));
        assert_eq!(left.output.last().map(|(seq, ..)| *seq), Some(Seq(seq)));
    }
}

#[test]
fn the_end_is_found_with_its_numbers() {
    let (mut journal, memory) = journal(large());
    journal.ending(b"{}");
    assert!(found(&memory).exit.is_none());
    let exit = LoggedExit {
        code: 3,
        details: Default::default(),
        sandbox_denied: false,
        totals: Default::default(),
    };
    journal.exited(Seq(1), &serde_json::to_vec(&exit).expect("json"));
    let left = found(&memory);
    assert_eq!(
        (left.exit.map(|(seq, exit)| (seq, exit.code)), left.closed, left.last_seq),
        (Some((Seq(1), 3)), false, Seq(1))
    );
    journal.closed(Seq(2));
    let left = found(&memory);
    assert!(left.closed && left.last_seq == Seq(2));
}

#[test]
fn writes_are_remembered_by_their_hashes_the_newest_first_to_stay() {
    let (mut journal, memory) = journal(large());
    for number in 0..20 {
        journal.accept(Some(&format!("write {number}")), b"");
    }
    let expected: Vec<_> = (4..20).map(|number| hash(&format!("write {number}"))).collect();
    assert_eq!(found(&memory).ids, expected);
}

#[test]
fn more_input_than_there_is_room_for_is_said_to_be_lost_until_it_is_written() {
    let (mut journal, memory) = journal(large());
    journal.accept(None, &[b'x'; 2000]);
    let left = found(&memory);
    assert!(left.input_lost && left.input.is_empty());
    journal.writes(2000);
    journal.accept(None, b"again");
    let left = found(&memory);
    assert!(!left.input_lost);
    assert_eq!(left.input, b"again");
}

#[test]
fn a_layout_of_another_kind_is_refused() {
    let (_, memory) = journal(large());
    set(&memory, word::SCHEMA, get(&memory, word::SCHEMA) + 1);
    assert!(replay(&memory).is_none());
    assert!(Content::of(0).is_none());
}
