//! A save that is killed at any point leaves the old or the new file, whole.

use crate::support::{Home, child, told};
use codex_config::StoreMode;
use codex_login::{Store, StoredCredentials};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const ROUNDS: u64 = 100;

/// Long enough that a write of it takes a while, and different in length and in every byte.
fn long_key(letter: char) -> StoredCredentials {
    let length = if letter == 'a' { 300_000 } else { 100_000 };
    StoredCredentials::from_api_key(letter.to_string().repeat(length).into())
}

#[test]
fn a_kill_at_any_point_of_a_save_leaves_the_old_or_the_new_file_whole() {
    let home = Home::new();
    let store = home.store(StoreMode::File);
    store.save(&long_key('a')).unwrap();
    for round in 0..ROUNDS {
        let mut writer = child("crash::child_saves_without_end")
            .env("LOGIN_TEST_HOME", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("saving")), "the writer has begun");
        // Each round hits another moment of a save.
        std::thread::sleep(Duration::from_micros(round * 37 % 3700));
        writer.kill().unwrap();
        writer.wait().unwrap();

        let loaded = store.load().unwrap().unwrap();
        let key = loaded.api_key().unwrap().expose();
        let letter = key.chars().next().unwrap();
        assert!(key == long_key(letter).api_key().unwrap().expose(), "a mixture after round {round}");
    }
    // The locks of the dead are free, and what they left is cleared away.
    store.save(&long_key('b')).unwrap();
    assert_eq!(home.names(), ["auth.json", "auth.json.lock", "auth.lock"]);
}

#[test]
#[ignore = "the child's part of a_kill_at_any_point_of_a_save_leaves_the_old_or_the_new_file_whole"]
fn child_saves_without_end() {
    let Some(home) = told("LOGIN_TEST_HOME") else { return };
    let store = Store::new(Path::new(&home), StoreMode::File);
    let documents = [long_key('b'), long_key('a')];
    println!("saving");
    std::io::stdout().flush().unwrap();
    for document in documents.iter().cycle() {
        store.save(document).unwrap();
    }
}
