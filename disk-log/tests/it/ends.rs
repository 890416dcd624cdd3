//! What becomes of the logs of servers that died.

use codex_disk_log::{Kind, Outcome, Position};

use crate::support::{BOUNDS, Place, append, flip, numbered, outputs, read_all};

/// The state directory as a server leaves it that is killed: nothing is tidied up.
fn die(store: codex_disk_log::Store, place: &Place) {
    let owners = place.path().join("owners");
    let before: Vec<_> =
        std::fs::read_dir(&owners).expect("owners").map(|entry| entry.expect("one").path()).collect();
    drop(store);
    for path in before {
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .expect("an owner's file");
    }
}

#[test]
fn a_dead_servers_logs_are_ended_and_a_living_ones_are_not() {
    let place = Place::new();
    let (dead, living) = (place.store(BOUNDS), place.store(BOUNDS));
    let mut ids = Vec::new();
    for (number, last) in [None, Some(Kind::Exited), Some(Kind::Closed)].into_iter().enumerate() {
        let mut log = dead.create(b"about", 3).expect("a log");
        append(&mut log, &numbered(50));
        if last.is_some() {
            append(&mut log, &[(Kind::Exited, b"code 3".to_vec())]);
        }
        if last == Some(Kind::Closed) {
            append(&mut log, &[(Kind::Stdout, b"of a child".to_vec()), (Kind::Closed, Vec::new())]);
        }
        ids.push((log.id(), number));
    }
    let mut of_living = living.create(b"about", 3).expect("a log");
    append(&mut of_living, &numbered(5));
    assert_eq!(living.recover(50).expect("recovered").ended, 0, "everybody lives");
    die(dead, &place);
    let recovered = living.recover(77).expect("recovered");
    assert_eq!((recovered.ended, recovered.entered, recovered.unreadable), (3, 0, 0));
    assert_eq!(std::fs::read_dir(place.path().join("owners")).expect("owners").count(), 1);
    for (id, number) in ids {
        let end = living.reader(id).expect("a reader").end().expect("read").expect("an end");
        let (outcome, exit) = [
            (Outcome::ServerLost, None),
            (Outcome::ServerLost, Some(b"code 3".to_vec())),
            (Outcome::Closed, Some(b"code 3".to_vec())),
        ][number]
            .clone();
        assert_eq!((end.outcome, end.exit), (outcome, exit));
        let output = outputs(&read_all(&living, id, 100));
        assert_eq!(output[..50], numbered(50));
        let bytes: usize = output.iter().map(|(_, content)| content.len()).sum();
        assert_eq!(end.position.offset, bytes as u64);
    }
    assert_eq!(living.list(None, 9).expect("a list").0.len(), 3);
    let running = living.running().expect("logs");
    assert_eq!(running.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [of_living.id()]);
    // Once is enough.
    assert_eq!(living.recover(78).expect("recovered"), codex_disk_log::Recovered::default());
}

#[test]
fn a_log_of_an_earlier_boot_was_lost_with_the_machine() {
    let place = Place::new();
    let dead = place.store(BOUNDS);
    let mut log = dead.create(b"", 3).expect("a log");
    append(&mut log, &numbered(50));
    let id = log.id();
    die(dead, &place);
    // Another boot than the one that it began in, in both copies of its start.
    let start = place.path().join("open").join(id.to_string()).join("start");
    let bytes = std::fs::read(&start).expect("a start");
    let mut other = store_start(&place, id);
    other.boot = [7; 16];
    std::fs::write(&start, other.encoded()).expect("a start");
    assert_eq!(bytes.len(), std::fs::metadata(&start).expect("a start").len() as usize);
    let store = place.store(BOUNDS);
    store.recover(9).expect("recovered");
    let end = store.reader(id).expect("a reader").end().expect("read").expect("an end");
    assert_eq!((end.outcome, end.exit, end.position.seq), (Outcome::MachineLost, None, 51));
    assert_eq!(store.list(None, 1).expect("a list").0[0].entry.outcome, Outcome::MachineLost);
}

fn store_start(place: &Place, id: codex_disk_log::LogId) -> codex_disk_log::Start {
    place.store(BOUNDS).reader(id).expect("a reader").start().clone()
}

#[test]
fn what_the_index_has_lost_is_entered_again() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    for number in 0..5 {
        let mut log = store.create(b"", number).expect("a log");
        append(&mut log, &numbered(5));
        log.finish(Position::START, None, number).expect("the end");
    }
    let listed = || store.list(None, 9).expect("a list").0;
    let before = listed();
    // The header, and with it all.
    flip(&place.path().join("index"), 100);
    assert_eq!(listed(), []);
    assert_eq!(store.recover(0).expect("recovered").entered, 5);
    assert_eq!(listed(), before);
    // One entry of them.
    flip(&place.path().join("index"), (32 + 96 + 5) * 8);
    assert_eq!(listed().len(), 4);
    assert_eq!(store.recover(0).expect("recovered").entered, 1);
    assert_eq!(listed().len(), 5);
}

#[test]
fn a_log_without_a_start_is_told_and_removed() {
    let place = Place::new();
    let dead = place.store(BOUNDS);
    let id = dead.create(b"about", 3).expect("a log").id();
    die(dead, &place);
    let store = place.store(BOUNDS);
    std::fs::write(place.path().join("open").join(id.to_string()).join("start"), "nonsense").expect("a file");
    assert!(store.reader(id).is_err());
    assert_eq!(store.recover(0).expect("recovered").unreadable, 1);
    assert!(matches!(store.reader(id), Err(codex_disk_log::LogError::Unknown(_))));
}

#[test]
fn a_program_that_was_not_started_leaves_no_log() {
    let place = Place::new();
    let store = place.store(BOUNDS);
    let log = store.create(b"", 0).expect("a log");
    let id = log.id();
    log.discard();
    assert!(store.reader(id).is_err());
    assert_eq!(store.running().expect("logs"), []);
}
