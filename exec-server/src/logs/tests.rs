//! The thread, with a program that is played.

use super::*;
use codex_disk_log::{From, Outcome};

/// A program whose events are given.
struct Played {
    log: Arc<DiskLog>,
    state: Mutex<Vec<DiskEvent>>,
    kept: Mutex<Seq>,
    end: Option<Position>,
    gave_up: Mutex<bool>,
}

impl Kept for Played {
    fn unkept(&self) -> Unkept {
        let mut events = self.state.lock();
        // One by one: the thread has to come back for more.
        let event = if events.is_empty() { None } else { Some(events.remove(0)) };
        let more = !events.is_empty();
        let end = self.end.filter(|_| !more).map(|position| (position, b"code 0".to_vec()));
        Unkept { events: event.into_iter().collect(), more, end }
    }

    fn kept(&self, seq: Seq) {
        *self.kept.lock() = seq;
    }

    fn keep_no_more(&self) {
        *self.gave_up.lock() = true;
    }
}

fn event(seq: u64, text: &'static str) -> DiskEvent {
    DiskEvent { seq: Seq(seq), kind: Kind::Stdout, content: Bytes::from_static(text.as_bytes()) }
}

fn played(open: &Arc<OpenLogs>, events: Vec<DiskEvent>, end: Option<Position>) -> Arc<Played> {
    let log = open.begin(b"about").expect("a log");
    Arc::new(Played {
        log,
        state: Mutex::new(events),
        kept: Mutex::default(),
        end,
        gave_up: Mutex::default(),
    })
}

#[test]
fn what_a_program_says_is_written_and_its_end_ends_the_log() {
    let place = tempfile::tempdir().expect("a directory");
    let logs = Logs::new(place.path().join("state"), &crate::Limits::default().logs);
    let open = logs.open().expect("a store").expect("one that is kept");
    let end = Position { seq: 3, offset: 2 };
    let over = played(&open, vec![event(1, "a"), event(2, "b")], Some(end));
    let goes_on = played(&open, vec![event(1, "c")], None);
    for program in [&over, &goes_on] {
        program.log.news_of(Arc::clone(program) as Arc<dyn Kept>);
    }
    logs.flush();
    assert_eq!((*over.kept.lock(), *goes_on.kept.lock()), (Seq(2), Seq(1)));
    let ended = open.store().reader(over.log.id()).expect("a reader");
    let page = ended.page(From::Seq(1), u64::MAX).expect("a page");
    assert_eq!(page.records.len(), 2);
    assert_eq!(page.end.expect("an end").position, end);
    let id = goes_on.log.id();
    assert_eq!(open.store().running().expect("logs").len(), 1);
    // Nobody waits for the rest of this one any more.
    drop(goes_on);
    logs.flush();
    let end = open.store().reader(id).expect("a reader").end().expect("read").expect("an end");
    assert_eq!((end.outcome, end.exit), (Outcome::Closed, None));
}

#[test]
fn a_disk_that_fails_is_told_to_the_program_and_its_end_is_kept_when_it_works_again() {
    let place = tempfile::tempdir().expect("a directory");
    let logs = Logs::new(place.path().join("state"), &crate::Limits::default().logs);
    let open = logs.open().expect("a store").expect("one that is kept");
    let program = played(&open, vec![event(1, "a")], None);
    let log = place.path().join("state/open").join(program.log.id().to_string());
    // Where the first segment would be made.
    let in_the_way = log.join("0000000000000001-0000000000000000.log");
    std::fs::create_dir(&in_the_way).expect("something in the way");
    program.log.news_of(Arc::clone(&program) as Arc<dyn Kept>);
    logs.flush();
    assert!(*program.gave_up.lock() && *program.kept.lock() == Seq::NONE);
}

#[test]
fn where_no_logs_are_kept_nothing_is_opened() {
    assert!(Logs::default().open().expect("nothing").is_none());
    assert!(!Logs::default().are_kept());
    Logs::default().flush();
}
