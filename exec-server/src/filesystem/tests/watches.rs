//! `fs/watchMissing` (10.11).

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Fixture, limits};
use crate::filesystem::watch::chain::Watches;
use crate::filesystem::{ArmedWatch, MissingWatch};
use crate::protocol::filesystem::WatchMissingParams;

/// A watch whose firings arrive on a channel.
fn new_watch() -> (MissingWatch, UnboundedReceiver<u64>) {
    let (send, receive) = unbounded_channel();
    let fired = Box::new(move |id| {
        let _ = send.send(id);
    });
    (MissingWatch::new(&limits(), fired), receive)
}

/// Sets a watch, and starts it if it could be set.
fn set(watch: &MissingWatch, params: &WatchMissingParams) -> bool {
    let armed = watch.arm(params);
    let watching = armed.is_some();
    armed.into_iter().for_each(ArmedWatch::start);
    watching
}

fn watching(at: &Fixture, watch: &MissingWatch, params: Value) -> bool {
    set(watch, &at.params(params))
}

type Change = fn(&Fixture);

#[tokio::test]
async fn a_relevant_change_fires_once() {
    let changes: [(&str, Value, Change); 12] = [
        ("the file appears", json!({"missing": ["n"]}), |at| std::fs::write(at.path("n"), "").unwrap()),
        ("a symlink appears", json!({"missing": ["n"]}), |at| symlink("gone", at.path("n")).unwrap()),
        ("one is moved in", json!({"missing": ["x", "n"]}), |at| {
            std::fs::rename(at.path("a.txt"), at.path("n")).unwrap();
        }),
        ("a parent appears", json!({"missing": ["p/q/r"]}), |at| std::fs::create_dir(at.path("p")).unwrap()),
        ("the parent is renamed", json!({"missing": ["sub/deep/n"]}), |at| {
            std::fs::rename(at.path("sub/deep"), at.path("sub/other")).unwrap();
        }),
        ("a grandparent is renamed", json!({"missing": ["sub/deep/n"]}), |at| {
            std::fs::rename(at.path("sub"), at.path("other")).unwrap();
        }),
        ("the parent is removed", json!({"missing": ["sub/deep/n"]}), |at| {
            std::fs::remove_dir(at.path("sub/deep")).unwrap();
        }),
        ("it appears behind a symlink", json!({"missing": ["dlink/n"]}), |at| {
            std::fs::write(at.path("sub/n"), "").unwrap();
        }),
        ("the symlink on the way goes", json!({"missing": ["dlink/n"]}), |at| {
            std::fs::remove_file(at.path("dlink")).unwrap();
        }),
        ("the present file is written", json!({"missing": ["n"], "present": "link"}), |at| {
            std::fs::write(at.path("a.txt"), "new").unwrap();
        }),
        ("the present file is removed", json!({"missing": ["n"], "present": "a.txt"}), |at| {
            std::fs::remove_file(at.path("a.txt")).unwrap();
        }),
        ("the present directory is renamed", json!({"missing": ["n"], "present": "sub"}), |at| {
            std::fs::rename(at.path("sub"), at.path("other")).unwrap();
        }),
    ];
    for (what, mut params, change) in changes {
        let at = Fixture::new();
        let (watch, mut fired) = new_watch();
        params["watchId"] = json!(7);
        assert!(watching(&at, &watch, params), "{what}");
        change(&at);
        assert_eq!(fired.recv().await, Some(7), "{what}");
        change_again(&at);
        drop(watch);
        assert_eq!(fired.recv().await, None, "{what} fires once");
    }
}

fn change_again(at: &Fixture) {
    let _ = std::fs::write(at.path("n"), "again");
}

#[test]
fn unrelated_changes_do_not_fire() {
    let at = Fixture::new();
    let mut watches = Watches::new().unwrap();
    watches.add_missing(&at.path("sub/n")).unwrap();
    watches.add_present(&at.path("sub/deep")).unwrap();
    std::fs::write(at.path("sibling"), "").unwrap();
    std::fs::write(at.path("n"), "").unwrap();
    std::fs::write(at.path("sub/sibling"), "").unwrap();
    std::fs::write(at.path("sub/x"), "written").unwrap();
    std::fs::rename(at.path("sub/x"), at.path("sub/y")).unwrap();
    std::fs::remove_file(at.path("sub/y")).unwrap();
    std::fs::write(at.path("sub/deep/n"), "").unwrap();
    // The kernel queues events before the change returns, so all of them are read here.
    assert_eq!(watches.read_changes(), Err(rustix::io::Errno::AGAIN));
    std::fs::write(at.path("sub/n"), "").unwrap();
    assert_eq!(watches.read_changes(), Ok(true));
}

#[tokio::test]
async fn false_answers() {
    let at = Fixture::new();
    let (watch, _fired) = new_watch();
    let many: Vec<_> = (0..65).map(|number| format!("m{number}")).collect();
    let cases = [
        json!({"missing": []}),
        json!({"missing": many}),
        json!({"missing": ["n", "a.txt"]}),
        json!({"missing": ["dangling"]}),
        json!({"missing": ["sub"]}),
        json!({"missing": ["n"], "present": "gone"}),
        json!({"missing": ["n"], "present": "dangling"}),
        json!({"missing": ["/proc/self/none"]}),
        json!({"missing": ["/sys/none"]}),
    ];
    for (number, mut params) in cases.into_iter().enumerate() {
        params["watchId"] = json!(number + 1);
        assert!(!watching(&at, &watch, params.clone()), "{params}");
    }
    let foreign = serde_json::from_value(json!({"watchId": 50, "missing": ["file://other/x"]})).unwrap();
    assert!(!set(&watch, &foreign));
    assert!(watching(&at, &watch, json!({"watchId": 51, "missing": many[..64]})));
}

#[tokio::test]
async fn ids_only_grow_and_a_bad_one_leaves_the_watch_running() {
    let at = Fixture::new();
    let (watch, mut fired) = new_watch();
    assert!(!watching(&at, &watch, json!({"watchId": 0, "missing": ["n"]})));
    assert!(watching(&at, &watch, json!({"watchId": 5, "missing": ["n"]})));
    assert!(!watching(&at, &watch, json!({"watchId": 5, "missing": ["m"]})));
    assert!(!watching(&at, &watch, json!({"watchId": 4, "missing": ["m"]})));
    std::fs::write(at.path("n"), "").unwrap();
    assert_eq!(fired.recv().await, Some(5));
}

#[tokio::test]
async fn a_false_answer_with_a_good_id_ends_the_running_watch() {
    let at = Fixture::new();
    let (watch, mut fired) = new_watch();
    assert!(watching(&at, &watch, json!({"watchId": 1, "missing": ["n"]})));
    assert!(!watching(&at, &watch, json!({"watchId": 2, "missing": ["a.txt"]})));
    std::fs::write(at.path("n"), "").unwrap();
    assert!(watching(&at, &watch, json!({"watchId": 3, "missing": ["m"]})));
    std::fs::write(at.path("m"), "").unwrap();
    assert_eq!(fired.recv().await, Some(3));
}

#[tokio::test]
async fn a_change_between_the_answer_and_the_start_is_told_of_and_a_replaced_watch_is_silent() {
    let at = Fixture::new();
    let (watch, mut fired) = new_watch();
    let old = watch.arm(&at.params(json!({"watchId": 1, "missing": ["n"]}))).unwrap();
    let armed = watch.arm(&at.params(json!({"watchId": 2, "missing": ["n"]}))).unwrap();
    std::fs::write(at.path("n"), "").unwrap();
    old.start();
    armed.start();
    assert_eq!(fired.recv().await, Some(2));
}
