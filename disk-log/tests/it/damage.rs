//! A flipped bit costs one record, and is told; what a power cut leaves is a prefix.

use codex_disk_log::{Found, From, Kind, LossCause, Scanner};
use proptest::prelude::*;

use crate::support::{BOUNDS, Place, append, flip, numbered, outputs};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_costs_that_record_only_and_is_told(
        count in 2_usize..120, which in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>(),
    ) {
        let place = Place::new();
        let store = place.store(BOUNDS);
        let mut log = store.create(b"", 0).expect("a log");
        let output = numbered(count);
        append(&mut log, &output[..count / 2]);
        append(&mut log, &output[count / 2..]);
        let (id, position) = (log.id(), log.position());
        log.finish(position, None, 0).expect("the end");
        let segments = place.segments(id);
        let segment = &segments[which.index(segments.len())];
        let bits = std::fs::metadata(segment).expect("a segment").len() * 8;
        flip(segment, bit.index(usize::try_from(bits).expect("bits")));

        let page = store.reader(id).expect("a reader").page(From::Seq(1), u64::MAX).expect("a page");
        prop_assert!(page.at_end);
        prop_assert_eq!(page.records.len(), count - 1);
        let [loss] = page.lost[..] else { panic!("{:?}", page.lost) };
        let lost = loss.before;
        prop_assert_eq!(&loss, &codex_disk_log::Loss {
            cause: LossCause::Damaged, before: lost, records: 1, bytes: output[lost].1.len() as u64,
        });
        let left: Vec<_> = output.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, piece)| piece.clone()).collect();
        prop_assert_eq!(outputs(&page.records), left);
    }

    #[test]
    fn what_is_cut_off_or_left_as_zeros_costs_no_earlier_record(
        count in 1_usize..60, cut in any::<prop::sample::Index>(), zeros in 0_usize..9000,
    ) {
        let place = Place::new();
        let store = place.store(BOUNDS);
        let mut log = store.create(b"", 0).expect("a log");
        let output = numbered(count);
        append(&mut log, &output);
        let id = log.id();
        drop(log);
        let segments = place.segments(id);
        let last = segments.last().expect("a segment");
        let mut bytes = std::fs::read(last).expect("bytes");
        let whole = records(&place, id, &bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        let kept = whole.iter().filter(|end| **end <= bytes.len()).count();
        bytes.resize(bytes.len() + zeros, 0);
        std::fs::write(last, bytes).expect("a torn segment");
        let page = store.reader(id).expect("a reader").page(From::Seq(1), u64::MAX).expect("a page");
        prop_assert_eq!(outputs(&page.records), &output[..count - whole.len() + kept]);
        // Zeros in the place of a record's content are damage, and told.
        prop_assert!(page.lost.iter().all(|loss| loss.records == 1 && loss.before == page.records.len()));
        prop_assert!(page.lost.len() <= usize::from(zeros > 0));
    }
}

/// Where each record of the last segment ends.
fn records(place: &Place, id: codex_disk_log::LogId, bytes: &[u8]) -> Vec<usize> {
    let start = std::fs::read(place.path().join("open").join(id.to_string()).join("start")).expect("a start");
    // Behind the head of the start record.
    let salt = u32::from_le_bytes(start[44..48].try_into().expect("a salt"));
    let (mut scanner, mut ends) = (Scanner::new(bytes, salt), Vec::new());
    while let Found::Record(_) = scanner.next().expect("bytes") {
        ends.push(usize::try_from(scanner.at()).expect("a place"));
    }
    ends
}

#[test]
fn a_program_can_print_no_record() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    // Another log's record, bit by bit.
    let mut other = store.create(b"", 0).expect("a log");
    append(&mut other, &[(Kind::Stdout, b"forged".to_vec())]);
    let forged = std::fs::read(&place.segments(other.id())[0]).expect("a segment");
    let mut log = store.create(b"", 0).expect("a log");
    append(&mut log, &[(Kind::Stdout, forged.repeat(3)), (Kind::Stdout, b"true".to_vec())]);
    // The head of the record that holds it is damaged, so what it holds is looked through.
    flip(&place.segments(log.id())[0], 8 * 9);
    let page = store.reader(log.id()).expect("a reader").page(From::Seq(1), u64::MAX).expect("a page");
    assert_eq!(outputs(&page.records), [(Kind::Stdout, b"true".to_vec())]);
    assert_eq!(page.lost.len(), 1);
}
