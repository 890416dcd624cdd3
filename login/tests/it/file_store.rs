//! `auth.json`: how it is written, locked, linked and removed; and credentials in memory.

use crate::support::{GUARD, Home, fresh, mode_of};
use codex_config::StoreMode;
use codex_login::{Store, StoredCredentials};
use serde_json::json;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc;

fn key(key: &str) -> StoredCredentials {
    StoredCredentials::from_api_key(key.into())
}

fn lock(home: &Home, name: &str) -> File {
    let file = File::create(home.path().join(name)).unwrap();
    file.lock().unwrap();
    file
}

#[test]
fn no_file_is_no_credentials() {
    let home = Home::new();
    assert!(home.store(StoreMode::File).load().unwrap().is_none());
    assert!(Store::new(&home.path().join("missing"), StoreMode::File).load().unwrap().is_none());
    assert!(home.names().is_empty());
}

#[test]
fn a_save_makes_the_home_the_locks_and_a_private_file() {
    let parent = Home::new();
    let home = parent.path().join("a/b");
    Store::new(&home, StoreMode::File).save(&key("sk")).unwrap();
    assert_eq!(mode_of(&home.join("auth.json")), 0o600);
    assert_eq!(mode_of(&home.join("auth.json.lock")), 0o600);
    // Whatever the umask is: who may open it can hold it.
    assert_eq!(mode_of(&home.join("auth.lock")), 0o600);
    let mut names: Vec<_> =
        std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["auth.json", "auth.json.lock", "auth.lock"]);
}

#[test]
fn an_open_file_becomes_private_and_a_link_stays() {
    let home = Home::new();
    home.write(&json!({}));
    std::fs::set_permissions(home.file(), Permissions::from_mode(0o644)).unwrap();
    home.store(StoreMode::File).save(&key("sk")).unwrap();
    assert_eq!(mode_of(&home.file()), 0o600);

    for (exists, relative) in [(true, false), (true, true), (false, false), (false, true)] {
        let home = Home::new();
        let elsewhere = home.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        if exists {
            std::fs::write(elsewhere.join("real.json"), "{}").unwrap();
        }
        let target = if relative { "elsewhere/real.json".into() } else { elsewhere.join("real.json") };
        symlink("link", home.file()).unwrap();
        symlink(&target, home.path().join("link")).unwrap();
        home.store(StoreMode::File).save(&key("sk")).unwrap();
        assert_eq!(std::fs::read_link(home.file()).unwrap(), std::path::Path::new("link"));
        assert_eq!(std::fs::read_link(home.path().join("link")).unwrap(), target);
        assert_eq!(home.read()["OPENAI_API_KEY"], "sk");
        assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 1);
    }
}

#[test]
fn a_broken_file_is_named_by_class_and_place() {
    let home = Home::new();
    std::fs::write(home.file(), "{\n  \"OPENAI_API_KEY\": 5\n}").unwrap();
    let error = home.store(StoreMode::File).load().unwrap_err().to_string();
    assert_eq!(error, "failed to deserialize CLI auth from file: data error at line 2 column 21");
    std::fs::remove_file(home.file()).unwrap();
    std::fs::create_dir(home.file()).unwrap();
    let error = home.store(StoreMode::File).load().unwrap_err().to_string();
    assert!(error.starts_with("failed to read CLI auth from file") && error.contains("auth.json"), "{error}");
}

#[test]
fn removing_takes_what_is_there_even_if_it_is_broken() {
    let home = Home::new();
    let store = home.store(StoreMode::File);
    assert!(!store.remove().unwrap());
    std::fs::write(home.file(), "broken").unwrap();
    assert!(store.remove().unwrap());
    assert!(!home.file().exists());
    let missing = home.path().join("missing");
    assert!(!Store::new(&missing, StoreMode::File).remove().unwrap());
    assert!(!missing.exists(), "nothing to remove makes no home");
}

#[test]
fn an_interrupted_save_leaves_no_credentials_behind_a_sign_out() {
    let home = Home::with(&fresh());
    for name in [".auth-Ab12Cd", ".auth-toolong", ".author"] {
        std::fs::write(home.path().join(name), "secret").unwrap();
    }
    home.store(StoreMode::File).remove().unwrap();
    assert_eq!(home.names(), [".auth-toolong", ".author", "auth.json.lock", "auth.lock"]);
}

#[test]
fn reading_waits_for_no_lock() {
    let home = Home::with(&fresh());
    let _locks = (lock(&home, "auth.lock"), lock(&home, "auth.json.lock"));
    assert!(home.store(StoreMode::File).load().unwrap().is_some());
}

#[test]
fn saving_and_removing_wait_for_the_first_lock_as_long_as_it_takes() {
    type Write = fn(&Store);
    let save: Write = |store| store.save(&key("sk")).unwrap();
    let remove: Write = |store| assert!(store.remove().unwrap());
    for (write, stays) in [(save, true), (remove, false)] {
        let home = Home::with(&fresh());
        let before = home.read();
        let held = lock(&home, "auth.lock");
        let (sender, receiver) = mpsc::channel();
        let store = home.store(StoreMode::File);
        let writer = std::thread::spawn(move || {
            sender.send(()).unwrap();
            write(&store);
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(GUARD).unwrap();
        assert_eq!(home.read(), before);
        drop(held);
        receiver.recv_timeout(GUARD).unwrap();
        writer.join().unwrap();
        assert_eq!(home.file().exists(), stays);
    }
}

#[test]
fn a_stuck_writer_is_given_up_and_the_file_left_alone() {
    let home = Home::with(&fresh());
    let before = home.read();
    let _held = lock(&home, "auth.json.lock");
    let error = home.store(StoreMode::File).save(&key("sk")).unwrap_err();
    assert_eq!(error.to_string(), "credential commit lock timed out");
    assert_eq!(home.read(), before);
    assert!(!home.names().iter().any(|name| name.starts_with(".auth-")));
}

#[test]
fn memory_keeps_credentials_of_one_home_by_any_of_its_names_and_no_file() {
    let home = Home::new();
    let real = home.path().join("real");
    std::fs::create_dir(&real).unwrap();
    symlink(&real, home.path().join("link")).unwrap();
    let store = |path: &str| Store::new(&home.path().join(path), StoreMode::Ephemeral);
    store("real").save(&key("sk")).unwrap();
    for name in ["real", "link", "real/.", "real/../real"] {
        assert!(store(name).load().unwrap().is_some(), "{name}");
    }
    assert!(store("other").load().unwrap().is_none());
    assert!(store("link").remove().unwrap());
    assert!(store("real").load().unwrap().is_none());
    assert!(!store("real").remove().unwrap());
    assert_eq!(home.names(), ["link", "real"]);
}

#[test]
fn tokens_that_an_embedding_program_hands_in_never_reach_the_disk() {
    let home = Home::new();
    let store = home.store(StoreMode::File);
    let handed_in = include_bytes!("documents/chatgpt-auth-tokens.json");
    store.save(&StoredCredentials::from_json(handed_in).unwrap()).unwrap();
    assert!(home.names().is_empty());
    assert!(store.load_memory().is_some());
    assert!(store.remove().unwrap());
}

/// Makes `flock` fail with this error on the calling thread, as some network file systems do.
fn deny_locks(errno: rustix::io::Errno) {
    use seccompiler::{SeccompAction, SeccompFilter};
    let action = SeccompAction::Errno(errno.raw_os_error().cast_unsigned());
    // The number of flock on this architecture.
    let number = if cfg!(target_arch = "x86_64") { 73 } else { 32 };
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let rules = [(number, Vec::new())].into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
fn a_file_system_without_locks_still_stores() {
    use rustix::io::Errno;
    for errno in [Errno::NOSYS, Errno::NOLCK, Errno::NOTSUP] {
        let work = std::thread::spawn(move || {
            deny_locks(errno);
            let home = Home::new();
            let store = home.store(StoreMode::File);
            store.save(&key("sk-1")).unwrap();
            assert!(store.load().unwrap().is_some());
            assert!(store.remove().unwrap());
        });
        work.join().unwrap_or_else(|_| panic!("{errno}"));
    }
}
