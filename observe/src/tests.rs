//! The audit file: what is written, by whom it can be read, how it rotates, and what happens where there is no room.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const BOUNDS: Bounds = Bounds { file_bytes: 1 << 20, old_files: 3, waiting: 64 };

fn audit(path: &Path, bounds: Bounds, without_room: WithoutRoom) -> Audit<Value> {
    Audit::open(path, bounds, without_room).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for something that the thread does.
fn until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn records_are_lines_in_order_behind_what_is_there_in_a_file_for_its_owner() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("audit");
    // A line that a dead writer has left unfinished.
    std::fs::write(&path, "{\"whole\":1}\n{\"bro").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let audit = audit(&path, BOUNDS, WithoutRoom::Count);
    for number in 0..20 {
        audit.claim().unwrap().unwrap().fill(json!({"number": number, "text": "a\nb"}));
    }
    drop(audit.claim().unwrap());
    audit.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    let expected: String = (0..20).map(|n| format!("{}\n", json!({"number": n, "text": "a\nb"}))).collect();
    assert_eq!(text, format!("{{\"whole\":1}}\n{{\"bro\n{expected}"));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn only_a_plain_file_is_written_to() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::write(at("target"), "").unwrap();
    symlink(at("target"), at("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (path, word) in [
        (at("link"), "a symbolic link"),
        (place.path().to_owned(), "a directory"),
        (at("pipe"), "a pipe or socket"),
        (at("socket"), "a pipe or socket"),
        ("/dev/null".into(), "a device"),
        (at("missing/file"), "No such file"),
    ] {
        let error = Audit::<Value>::open(&path, BOUNDS, WithoutRoom::Count).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(std::fs::read(at("target")).unwrap(), b"");
}

#[test]
fn the_file_rotates_by_size_and_old_ones_go() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("audit");
    // A line has 14 bytes: three fit.
    let audit = audit(&path, Bounds { file_bytes: 45, ..BOUNDS }, WithoutRoom::Count);
    for number in 10..30 {
        audit.note(json!({"number": number}));
    }
    audit.note(json!({"long": "x".repeat(100)}));
    audit.note(json!({"number": 30}));
    audit.flush();
    let numbers = |name: &str| -> Vec<_> {
        lines(&place.path().join(name)).iter().map(|line| line["number"].as_u64()).collect()
    };
    assert_eq!(numbers("audit"), [Some(30)]);
    assert_eq!(numbers("audit.1"), [None], "a line that is longer than the file may be has one of its own");
    assert_eq!(numbers("audit.2"), [Some(28), Some(29)]);
    assert_eq!(numbers("audit.3"), [Some(25), Some(26), Some(27)]);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 4);
}

#[test]
fn a_file_that_others_rotate_is_begun_anew() {
    let place = TempDir::new().unwrap();
    let (path, moved) = (place.path().join("audit"), place.path().join("moved"));
    let audit = audit(&path, BOUNDS, WithoutRoom::Count);
    audit.note(json!({"number": 1}));
    audit.flush();
    std::fs::rename(&path, &moved).unwrap();
    audit.note(json!({"number": 2}));
    audit.flush();
    assert_eq!((lines(&moved), lines(&path)), (vec![json!({"number": 1})], vec![json!({"number": 2})]));
}

/// A directory in the place of the file keeps it from being written to, also for root.
#[test]
fn records_wait_while_nothing_can_be_written_and_what_has_no_room_is_counted() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("audit");
    let audit = audit(&path, Bounds { waiting: 5, ..BOUNDS }, WithoutRoom::Count);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    for number in 0..12 {
        audit.note(json!({"number": number}));
    }
    assert!(audit.claim().unwrap().is_none(), "there is no room");
    std::fs::remove_dir(&path).unwrap();
    until(|| lines(&path).len() == 6);
    let lines = lines(&path);
    let numbers: Vec<_> = lines[..5].iter().map(|line| line["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert_eq!((&lines[5]["event"], &lines[5]["lost"]), (&json!("gap"), &json!(8)));
    until(|| audit.claim().unwrap().is_some());
}

#[test]
fn where_records_are_required_there_is_no_room_and_no_gap() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("audit");
    let audit = audit(&path, Bounds { waiting: 3, ..BOUNDS }, WithoutRoom::Refuse);
    let mut places: Vec<_> = (0..3).map(|_| audit.claim().unwrap().unwrap()).collect();
    let refusal = audit.claim().unwrap_err().to_string();
    assert!(refusal.contains("audit"), "{refusal}");
    // An act that comes to nothing gives its room back.
    places.pop();
    places.push(audit.claim().unwrap().unwrap());
    for (number, place) in places.into_iter().enumerate() {
        place.fill(json!({"number": number}));
    }
    until(|| audit.claim().is_ok());
    until(|| lines(&path).len() == 3);
}

/// What the kernel took of a line before the disk was full is not written again.
#[test]
fn a_line_that_was_cut_goes_on_where_it_was_cut() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("audit");
    let mut file = AuditFile::open(&path, BOUNDS).unwrap();
    let text = b"{\"first\":1}\n{\"second\":2}\n";
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&text[..17]).unwrap();
    file.resume_at(17);
    file.append(text).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

#[test]
fn the_hash_of_arguments_is_what_a_shell_computes() {
    // printf '%s\0' -c 'echo hi' | sha256sum
    let out = std::process::Command::new("sh")
        .args(["-c", "printf '%s\\0' \"$@\" | sha256sum", "sh", "-c", "echo hi"])
        .output()
        .unwrap();
    let expected = String::from_utf8(out.stdout).unwrap();
    assert_eq!(Some(args_hash(["-c", "echo hi"]).as_str()), expected.split(' ').next());
    assert_ne!(args_hash(["ab", "c"]), args_hash(["a", "bc"]));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let cut_text = cut("é".repeat(3000).into());
    assert!(cut_text.len() < 4100 && cut_text.ends_with("é…"));
    assert_eq!(cut("short".into()), "short");
}
