//! What is written is read, from any place on, in pages of any size, while it is written and afterwards.

use codex_disk_log::{From, Kind, LossCause, Outcome, Piece, Position, Store};
use proptest::prelude::*;

use crate::support::{BOUNDS, Output, Place, append, numbered, outputs, read_all};

fn output() -> impl Strategy<Value = Vec<Output>> {
    let kind = prop_oneof![Just(Kind::Stdout), Just(Kind::Stderr), Just(Kind::Pty)];
    let content = prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 3000..5000),
    ];
    prop::collection::vec((kind, content), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_byte_is_there_from_any_place_on(
        output in output(), at_once in 1_usize..20, most in 1_u64..3000, seq in any::<prop::sample::Index>(),
        offset in any::<prop::sample::Index>(),
    ) {
        let place = Place::new();
        let store = place.store(BOUNDS);
        let mut log = store.create(b"about", 7).expect("a log");
        for some in output.chunks(at_once) {
            append(&mut log, some);
        }
        prop_assert_eq!(&outputs(&read_all(&store, log.id(), most)), &output);
        let reader = store.reader(log.id()).expect("a reader");
        let seq = seq.index(output.len());
        let page = reader.page(From::Seq(seq as u64 + 1), u64::MAX).expect("a page");
        prop_assert_eq!(outputs(&page.records), &output[seq..]);
        prop_assert_eq!(page.lost, []);
        // By offset: the bytes from there on, whatever record they are in.
        let bytes: Vec<u8> = output.iter().flat_map(|(_, content)| content.clone()).collect();
        let offset = offset.index(bytes.len() + 1);
        let page = reader.page(From::Offset(offset as u64), u64::MAX).expect("a page");
        let read: Vec<u8> = page.records.iter().flat_map(|record| record.content.clone()).collect();
        prop_assert_eq!(read, &bytes[offset..]);
        if let Some(first) = page.records.first() {
            prop_assert_eq!(first.head.offset, offset as u64);
        }
    }
}

#[test]
fn an_ended_log_tells_its_end_and_stays_readable_by_other_servers() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    let mut log = store.create(b"about", 7).expect("a log");
    let id = log.id();
    append(&mut log, &numbered(100));
    let others = place.store(BOUNDS);
    assert_eq!(outputs(&read_all(&others, id, 100)), numbered(100));
    assert_eq!(others.running().expect("logs").into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [id]);
    append(&mut log, &[(Kind::Exited, b"code 3".to_vec()), (Kind::Closed, Vec::new())]);
    let position = log.position();
    log.finish(position, None, 99).expect("the end");
    drop(store);
    assert_eq!(outputs(&read_all(&others, id, 100)), numbered(100));
    let end = others.reader(id).expect("a reader").end().expect("read").expect("an end");
    assert_eq!(
        (end.outcome, end.time, end.position, end.exit.as_deref()),
        (Outcome::Closed, 99, Position { seq: 103, offset: position.offset }, Some(&b"code 3"[..]))
    );
    assert_eq!(others.running().expect("logs"), []);
    let (listed, next) = others.list(None, 10).expect("a list");
    assert_eq!((listed.len(), next), (1, None));
    assert_eq!(
        (listed[0].entry.id, &listed[0].about[..], listed[0].exit.as_deref()),
        (id, &b"about"[..], Some(&b"code 3"[..]))
    );
}

#[test]
fn rotation_drops_the_oldest_whole_segments_and_counts_them() {
    let place = Place::new();
    let store = place.store(codex_disk_log::Bounds { log_bytes: 5 << 10, ..BOUNDS });
    let mut log = store.create(b"", 0).expect("a log");
    let output = numbered(1000);
    for some in output.chunks(7) {
        append(&mut log, some);
        assert!(log.size() <= 5 << 10, "{}", log.size());
    }
    let reader = store.reader(log.id()).expect("a reader");
    let page = reader.page(From::Seq(1), u64::MAX).expect("a page");
    let read = outputs(&page.records);
    let gone = output.len() - read.len();
    assert_eq!(read, &output[gone..]);
    let bytes: usize = output[..gone].iter().map(|(_, content)| content.len()).sum();
    let [loss] = page.lost[..] else { panic!("{:?}", page.lost) };
    assert_eq!(
        (loss.cause, loss.before, loss.records, loss.bytes),
        (LossCause::Dropped, 0, gone as u64, bytes as u64)
    );
    let page = reader.page(From::Offset(10), u64::MAX).expect("a page");
    assert_eq!(page.lost[0].bytes, bytes as u64 - 10);
    assert_eq!(outputs(&page.records), &output[gone..]);
}

#[test]
fn ended_logs_are_listed_page_by_page_the_last_first() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    for number in 0_u64..250 {
        let log = store.create(&number.to_le_bytes(), number).expect("a log");
        log.finish(Position::START, None, 1000 + number).expect("the end");
    }
    let numbers = |store: &Store| {
        let (mut numbers, mut before) = (Vec::new(), None);
        loop {
            let (page, next) = store.list(before, 99).expect("a page");
            assert!(page.len() <= 99);
            numbers.extend(
                page.iter().map(|listed| u64::from_le_bytes(listed.about[..].try_into().expect("a number"))),
            );
            before = next;
            if next.is_none() {
                return numbers;
            }
        }
    };
    assert_eq!(numbers(&store), (0..250).rev().collect::<Vec<_>>());
    // Kept for so long after the end; a time that is over goes with all its files.
    let swept = store.sweep(1000 + 100 + 1_000_000).expect("a sweep");
    assert_eq!(swept.logs, 101);
    assert_eq!(numbers(&store), (101..250).rev().collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(place.path().join("ended")).expect("logs").count(), 149);
}

#[test]
fn all_logs_together_take_no_more_than_they_may() {
    let place = Place::new();
    let store = place.store(codex_disk_log::Bounds { all_bytes: 20_000, ..BOUNDS });
    let mut ids = Vec::new();
    for number in 0..10 {
        let mut log = store.create(b"", number).expect("a log");
        append(&mut log, &numbered(80));
        ids.push(log.id());
        log.finish(Position::START, None, number).expect("the end");
    }
    let mut running = store.create(b"", 0).expect("a log");
    append(&mut running, &numbered(80));
    let swept = store.sweep(0).expect("a sweep");
    assert!(swept.left <= 20_000 && swept.left > 15_000 && swept.too_many == 0, "{swept:?}");
    let left: Vec<_> = ids.iter().map(|id| store.reader(*id).is_ok()).collect();
    assert!(left.is_sorted(), "the oldest go first: {left:?}");
    assert_eq!(left.iter().filter(|left| !**left).count() as u64, swept.logs);
    // When only unended logs are left, their writers have to drop segments.
    append(&mut running, &numbered(800));
    let swept = store.sweep(0).expect("a sweep");
    assert!(swept.too_many > 0, "{swept:?}");
    let mut freed = 0;
    while freed < swept.too_many {
        let more = running.drop_oldest();
        assert!(more > 0);
        freed += more;
    }
    assert_eq!(store.sweep(0).expect("a sweep").too_many, 0);
}

#[test]
fn a_gap_is_said_once_and_counted() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    let mut log = store.create(b"", 0).expect("a log");
    append(&mut log, &numbered(3));
    log.give_up("the disk is full", 8);
    log.give_up("the disk is full", 9);
    let (id, position) = (log.id(), log.position());
    log.finish(Position { seq: position.seq + 5, offset: position.offset + 77 }, Some(b"code 0".to_vec()), 9)
        .expect("the end");
    let page = store.reader(id).expect("a reader").page(From::Seq(1), u64::MAX).expect("a page");
    let gaps: Vec<_> = page.records.iter().filter(|record| record.head.kind == Kind::Gap).collect();
    assert_eq!(gaps.iter().map(|gap| &gap.content[..]).collect::<Vec<_>>(), [b"the disk is full"]);
    let [loss] = page.lost[..] else { panic!("{:?}", page.lost) };
    assert_eq!((loss.cause, loss.records, loss.bytes), (LossCause::NotKept, 5, 77));
    assert_eq!(page.next.seq, position.seq + 5);
}

#[test]
fn a_page_says_at_least_one_record_however_small_it_is() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    let mut log = store.create(b"", 0).expect("a log");
    log.append(&[Piece { kind: Kind::Pty, time: 0, content: &[b'x'; 5000] }]).expect("appended");
    let page = store.reader(log.id()).expect("a reader").page(From::Seq(0), 1).expect("a page");
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.next, log.position());
}
