//! A writer that is killed at any point leaves what it has said to be written, and a prefix of what it was going to.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use codex_disk_log::{Kind, Outcome, Piece};

use crate::support::{BOUNDS, Place, outputs, read_all};

/// Says to the test's own program that it is to be the writer, and where.
const WRITER: &str = "CODEX_TEST_WRITER";
/// So often it is killed.
const KILLS: usize = 100;

fn line(number: usize) -> Vec<u8> {
    // Of many sizes, so that kills come in the middle of small and of large writes.
    let mut line = format!("{number:08} ").into_bytes();
    line.resize(9 + number * 37 % 5000, b'x');
    line
}

#[test]
fn a_writer_killed_at_a_hundred_points_loses_nothing_that_it_has_written() {
    if let Some(place) = std::env::var_os(WRITER) {
        return write_for_ever(place.as_ref());
    }
    let place = Place::new();
    let program = std::env::current_exe().expect("this program");
    for kill in 0..KILLS {
        let mut writer = Command::new(&program)
            .args(["--exact", "--nocapture"])
            .arg("kills::a_writer_killed_at_a_hundred_points_loses_nothing_that_it_has_written")
            .env(WRITER, place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a writer");
        let mut said = BufReader::new(writer.stdout.take().expect("its stdout")).lines();
        let mut numbers = said
            .by_ref()
            .filter_map(|line| line.expect("a line").strip_prefix("wrote ")?.parse::<usize>().ok());
        let mut written = 0;
        for _ in 0..=kill * 7 % 23 {
            written = numbers.next().expect("a writer that writes");
        }
        writer.kill().expect("killed");
        // What it had said until then.
        written = numbers.last().unwrap_or(written);
        writer.wait().expect("its end");

        let store = place.store(BOUNDS);
        assert_eq!(store.recover(1).expect("recovered").ended, 1, "kill {kill}");
        let (listed, _) = store.list(None, 1).expect("a list");
        assert_eq!(listed[0].entry.outcome, Outcome::ServerLost);
        let output = outputs(&read_all(&store, listed[0].entry.id, 1 << 20));
        assert!(output.len() >= written, "kill {kill}: {} of {written} lines", output.len());
        for (number, (kind, content)) in output.into_iter().enumerate() {
            assert!(kind == Kind::Stdout && content == line(number), "kill {kill}: line {number} is another");
        }
        assert_eq!(std::fs::read_dir(place.path().join("open")).expect("logs").count(), 0);
    }
}

fn write_for_ever(place: &std::path::Path) {
    let store = codex_disk_log::Store::open(place, BOUNDS).expect("a store");
    let mut log = store.create(b"", 0).expect("a log");
    println!();
    for number in (0..).step_by(3) {
        let lines = [line(number), line(number + 1), line(number + 2)];
        let pieces = lines.each_ref().map(|content| Piece { kind: Kind::Stdout, time: 0, content });
        log.append(&pieces).expect("appended");
        println!("wrote {}", number + 3);
    }
}
