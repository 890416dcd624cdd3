//! Walk, remove and copy (10.7 to 10.9).

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use serde_json::{Value, json};

use super::{Fixture, limits, run, shown, snapshot};
use crate::filesystem::*;
use crate::protocol::filesystem::{Copy, Remove, Walk, WalkKind, WalkResult};

fn walk_options(depth: u64, directories: u64, entries: u64, follow: bool, prune: bool) -> Value {
    json!({"maxDepth": depth, "maxDirectories": directories, "maxEntries": entries,
        "followDirectorySymlinks": follow, "pruneHiddenDirectories": prune})
}

/// A walk's entries relative to the root, with a slash behind directories.
fn names(root: &Path, result: &WalkResult) -> Vec<String> {
    let name = |entry: &crate::protocol::filesystem::WalkEntry| {
        let path = entry.path.local().unwrap().strip_prefix(root).unwrap().display().to_string();
        if entry.kind == WalkKind::Directory { path + "/" } else { path }
    };
    result.entries.iter().map(name).collect()
}

#[test]
fn walk_answers_as_the_spec_says() {
    let at = Fixture::new();
    std::fs::create_dir(at.path(".git")).unwrap();
    std::fs::write(at.path(".git/c"), "").unwrap();
    let all = ["/.git/", "/a.txt", "/sub/", "/.git/c", "/sub/deep/", "/sub/x"].as_slice();
    let cases: [(&str, Value, &[&str], bool); 9] = [
        ("", walk_options(10, 100, 100, false, false), all, false),
        ("", walk_options(1, 100, 6, false, false), all, false),
        ("", walk_options(0, 100, 100, false, false), &all[..3], false),
        ("", walk_options(10, 100, 2, false, false), &all[..2], true),
        ("", walk_options(10, 1, 100, false, false), &all[..3], true),
        (
            "",
            walk_options(10, 100, 100, false, true),
            &["/.git/", "/a.txt", "/sub/", "/sub/deep/", "/sub/x"],
            false,
        ),
        (
            "",
            walk_options(10, 100, 100, true, true),
            &["/.git/", "/a.txt", "/dlink/", "/sub/", "/dlink/deep/", "/dlink/x"],
            false,
        ),
        ("a.txt", walk_options(10, 10, 10, false, false), &[], false),
        ("dlink", walk_options(10, 10, 10, false, false), &[], false),
    ];
    for (path, options, wanted, truncated) in cases {
        let params = at.params(json!({"path": path, "options": options}));
        let result = Walk::run(&params, &limits()).unwrap();
        let wanted: Vec<_> = wanted.iter().map(|name| name[1..].to_owned()).collect();
        assert_eq!(names(at.dir.path(), &result), wanted, "{path} {options}");
        assert_eq!((result.truncated, result.errors.len()), (truncated, 0), "{path} {options}");
    }
    let followed = at.params(json!({"path": "dlink", "options": walk_options(10, 10, 10, true, false)}));
    assert_eq!(Walk::run(&followed, &limits()).unwrap().entries.len(), 2);
}

#[test]
fn walk_refuses_bounds_of_0_and_beyond_the_limits_and_a_missing_root() {
    let at = Fixture::new();
    let cases = [
        ("", walk_options(10, 0, 10, false, false), -32600),
        ("", walk_options(10, 10, 0, false, false), -32600),
        ("", walk_options(65, 1, 10, false, false), -32600),
        ("", walk_options(64, 10_001, 10, false, false), -32600),
        ("", walk_options(64, 10_000, 50_001, false, false), -32600),
        ("missing", walk_options(10, 10, 10, false, false), -32004),
        ("a.txt/x", walk_options(10, 10, 10, false, false), -32603),
    ];
    for (path, options, code) in cases {
        let params = at.params(json!({"path": path, "options": options}));
        assert_eq!(Walk::run(&params, &limits()).unwrap_err().code.0, code, "{path} {options}");
    }
    let largest = at.params(json!({"path": "", "options": walk_options(64, 10_000, 50_000, false, false)}));
    assert!(Walk::run(&largest, &limits()).is_ok());
}

#[test]
fn a_walk_reports_names_that_are_not_utf8_and_counts_the_size_of_its_result() {
    let at = Fixture::new();
    std::fs::write(at.dir.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "z").unwrap();
    let params = at.params(json!({"path": "", "options": walk_options(0, 9, 99, false, false)}));
    let result = Walk::run(&params, &limits()).unwrap();
    assert_eq!((result.entries.len(), result.errors.len()), (2, 1));
    assert_eq!(result.errors[0].path.local().unwrap(), at.path("bad\u{fffd}"));
    let first = 64 + crate::protocol::WirePath::uri_of(&at.path("a.txt")).len();
    for (bytes, entries) in [(first - 1, 0), (first, 1)] {
        let small = limits().with(|limits| limits.files.walk_result_bytes = bytes);
        let result = Walk::run(&params, &small).unwrap();
        assert_eq!((result.entries.len(), result.truncated), (entries, true));
    }
}

/// What a walk without links is, written as plainly as possible: every directory sorted and whole, nothing bounded.
fn naive_walk(root: &Path, max_depth: u64) -> Vec<String> {
    let mut listed = Vec::new();
    let mut queue = VecDeque::from([(root.to_path_buf(), 0)]);
    while let Some((directory, depth)) = queue.pop_front() {
        let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(|entry| entry.file_name().as_bytes().to_vec());
        for entry in entries {
            let name = entry.path().strip_prefix(root).unwrap().display().to_string();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                listed.push(name + "/");
                if depth < max_depth {
                    queue.push_back((entry.path(), depth + 1));
                }
            } else if kind.is_file() {
                listed.push(name);
            }
        }
    }
    listed
}

/// Makes a tree from random steps: a kind, and a place given by digits.
fn grow(root: &Path, outside: &Path, steps: &[(u8, Vec<u8>)]) {
    for (kind, place) in steps {
        let path = place.iter().fold(root.to_path_buf(), |path, name| path.join(format!("n{name}")));
        // The steps themselves must not leave the tree through one of its links.
        if !path
            .parent()
            .is_some_and(|parent| std::fs::canonicalize(parent).is_ok_and(|p| p.starts_with(root)))
        {
            continue;
        }
        // A step whose name is taken does nothing.
        let _ = match kind {
            0 if std::fs::symlink_metadata(&path).is_err() => std::fs::write(&path, "inside"),
            0 => Ok(()),
            1 => symlink(outside, &path),
            2 => symlink("nowhere", &path),
            _ => std::fs::create_dir(&path),
        };
    }
}

fn tree() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    prop::collection::vec((0u8..8, prop::collection::vec(0u8..3, 1..5)), 0..40)
}

/// A root to grow in, and a place outside that nothing may touch.
fn two_places() -> (tempfile::TempDir, tempfile::TempDir) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("n0")).unwrap();
    std::fs::write(outside.path().join("n1"), "outside").unwrap();
    (tempfile::tempdir().unwrap(), outside)
}

fn request<P: serde::de::DeserializeOwned>(members: Value) -> P {
    serde_json::from_value(members).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_walk_is_the_beginning_of_the_naive_walk_and_keeps_its_bounds(
        steps in tree(), depth in 0u64..5, directories in 1u64..8, entries in 1u64..20,
    ) {
        let (root, outside) = two_places();
        grow(root.path(), outside.path(), &steps);
        let all = naive_walk(root.path(), depth);
        let options = walk_options(depth, directories, entries, false, false);
        let result = Walk::run(&request(json!({"path": root.path(), "options": options})), &limits()).unwrap();
        let listed = names(root.path(), &result);
        prop_assert!(listed.len() as u64 <= entries);
        prop_assert_eq!(&listed[..], &all[..listed.len()]);
        prop_assert!(result.truncated || listed.len() == all.len());
        let unbounded = walk_options(depth, 1000, 1000, false, false);
        let whole = Walk::run(&request(json!({"path": root.path(), "options": unbounded})), &limits()).unwrap();
        prop_assert_eq!(names(root.path(), &whole), all);
        prop_assert!(!whole.truncated);
    }

    #[test]
    fn remove_takes_the_whole_tree_and_nothing_outside(steps in tree()) {
        let (root, outside) = two_places();
        let top = root.path().join("top");
        std::fs::create_dir(&top).unwrap();
        grow(&top, outside.path(), &steps);
        let before = snapshot(outside.path());
        run::<Remove>(&request(json!({"path": top}))).unwrap();
        prop_assert!(std::fs::symlink_metadata(&top).is_err());
        prop_assert_eq!(snapshot(outside.path()), before);
    }

    #[test]
    fn copy_gives_the_same_tree_or_fails_and_writes_nothing_outside(steps in tree(), other in tree()) {
        let (root, outside) = two_places();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        std::fs::create_dir_all(&from).unwrap();
        grow(&from, outside.path(), &steps);
        let (source, around) = (snapshot(&from), snapshot(outside.path()));
        let params = json!({"sourcePath": from, "destinationPath": to, "recursive": true});
        run::<Copy>(&request(params.clone())).unwrap();
        prop_assert_eq!(snapshot(&to), source.clone());
        run::<Remove>(&request(json!({"path": to}))).unwrap();
        std::fs::create_dir(&to).unwrap();
        grow(&to, outside.path(), &other);
        let _ = run::<Copy>(&request(params));
        prop_assert_eq!(snapshot(outside.path()), around);
        prop_assert_eq!(snapshot(&from), source);
    }
}

#[test]
fn remove_answers_as_the_spec_says() {
    let at = Fixture::new();
    for name in ["r1", "r2/in", "r3/in/er", "r4"] {
        std::fs::create_dir_all(at.path(name)).unwrap();
    }
    for name in ["rf", "rf2", "r3/in/f", "rf3"] {
        std::fs::write(at.path(name), "").unwrap();
    }
    let steps = [
        (json!({"path": "rf"}), json!({})),
        (json!({"path": "rf2", "recursive": false, "force": false}), json!({})),
        (json!({"path": "nope"}), json!({})),
        (json!({"path": "nope", "force": null}), json!({})),
        (json!({"path": "nope/deeper"}), json!({})),
        (json!({"path": "nope", "force": false}), json!(-32004)),
        (json!({"path": "a.txt/x"}), json!(-32603)),
        (json!({"path": "r1", "recursive": false}), json!({})),
        (json!({"path": "r2", "recursive": false}), json!(-32603)),
        (json!({"path": "r2"}), json!({})),
        (json!({"path": "r3", "recursive": true}), json!({})),
        (json!({"path": "rf3", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "rf3", "followSymlinks": false, "recursive": false}), json!({})),
        (json!({"path": "r4", "followSymlinks": false, "recursive": false}), json!({})),
        (json!({"path": "link", "followSymlinks": false, "recursive": false}), json!(-32600)),
        (json!({"path": "dlink/x", "followSymlinks": false, "recursive": false}), json!(-32603)),
        (json!({"path": "dlink/"}), json!({})),
        (json!({"path": "link"}), json!({})),
        (json!({"path": "dangling"}), json!({})),
        (json!({"path": "fifo"}), json!({})),
        (json!({"path": "/"}), json!(-32600)),
    ];
    for (params, wanted) in steps {
        assert_eq!(shown(run::<Remove>(&at.params(params.clone()))), wanted, "{params}");
    }
    let left: Vec<_> =
        snapshot(at.dir.path()).into_iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(left, ["a.txt", "sub", "sub/deep", "sub/x"]);
    let dots = request(json!({"path": format!("{}/sub/..", at.dir.path().display())}));
    assert_eq!(shown(run::<Remove>(&dots)), json!(-32600));
}

#[test]
fn a_tree_deeper_than_any_stack_or_path_is_copied_and_removed() {
    let at = Fixture::new();
    std::fs::create_dir(at.path("tall")).unwrap();
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut level = openat(CWD, at.path("tall"), directory, Mode::empty()).unwrap();
    for _ in 0..5000 {
        mkdirat(&level, "d", Mode::RWXU).unwrap();
        level = openat(&level, "d", directory, Mode::empty()).unwrap();
    }
    let params = json!({"sourcePath": "tall", "destinationPath": "tall2", "recursive": true});
    assert_eq!(shown(run::<Copy>(&at.params(params))), json!({}));
    for name in ["tall", "tall2"] {
        assert_eq!(shown(run::<Remove>(&at.params(json!({"path": name, "force": false})))), json!({}));
        assert!(!at.path(name).exists());
    }
}

#[test]
fn copy_answers_as_the_spec_says() {
    let at = Fixture::new();
    std::fs::create_dir_all(at.path("src/sub")).unwrap();
    std::fs::write(at.path("src/f"), "f").unwrap();
    symlink("f", at.path("src/l")).unwrap();
    std::os::unix::net::UnixListener::bind(at.path("src/socket")).unwrap();
    std::fs::set_permissions(at.path("src/f"), PermissionsExt::from_mode(0o751)).unwrap();
    let steps = [
        ("src/f", "f2", false, json!({})),
        ("a.txt", "f2", false, json!({})),
        ("src/f", "f3", true, json!({})),
        ("src/f", "src/f", false, json!({})),
        ("src/f", "src/l", false, json!({})),
        ("src/f", "link", false, json!({})),
        ("src/f", "sub", false, json!(-32603)),
        ("src/f", "fifo", false, json!(-32600)),
        ("src/f", "no/x", false, json!(-32004)),
        ("none", "x", false, json!(-32004)),
        ("src/l", "l2", false, json!({})),
        ("src/l", "l2", false, json!(-32603)),
        ("dlink", "l3", true, json!({})),
        ("src", "d1", false, json!(-32600)),
        ("src", "src", true, json!(-32600)),
        ("src", "src/sub", true, json!(-32600)),
        ("src", "src/sub/new", true, json!(-32600)),
        ("src", "src/../src/x", true, json!(-32600)),
        ("src", "a.txt", true, json!(-32603)),
        ("src", "no/d1", true, json!({})),
        ("src", "d1", true, json!({})),
        ("src", "d1", true, json!(-32603)),
        ("fifo", "fifo2", false, json!(-32600)),
        ("/dev/null", "null", false, json!(-32600)),
    ];
    for (source, destination, recursive, wanted) in steps {
        let params = json!({"sourcePath": source, "destinationPath": destination, "recursive": recursive});
        assert_eq!(shown(run::<Copy>(&at.params(params))), wanted, "{source} {destination} {recursive}");
    }
    assert_eq!(std::fs::read(at.path("src/f")).unwrap(), b"f", "copied onto itself it is whole");
    assert_eq!(std::fs::read(at.path("f2")).unwrap(), b"hello\n");
    assert_eq!(std::fs::read_link(at.path("d1/l")).unwrap(), Path::new("f"));
    assert_eq!(std::fs::read_link(at.path("l3")).unwrap(), Path::new("sub"));
    assert!(at.path("d1/sub").is_dir() && !at.path("d1/socket").exists());
    for (name, mode) in [("f3", 0o751), ("d1/f", 0o751), ("a.txt", 0o751)] {
        let found = std::fs::metadata(at.path(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
}

#[test]
fn a_merge_keeps_other_files_and_never_writes_through_a_symlink() {
    let at = Fixture::new();
    std::fs::create_dir_all(at.path("from/n")).unwrap();
    std::fs::write(at.path("from/f"), "new").unwrap();
    std::fs::create_dir_all(at.path("to/n")).unwrap();
    std::fs::write(at.path("to/f"), "old and longer").unwrap();
    std::fs::write(at.path("to/other"), "kept").unwrap();
    let merge = || {
        let params = json!({"sourcePath": "from", "destinationPath": "to", "recursive": true});
        shown(run::<Copy>(&at.params(params)))
    };
    assert_eq!(merge(), json!({}));
    assert_eq!(std::fs::read(at.path("to/f")).unwrap(), b"new");
    assert_eq!(std::fs::read(at.path("to/other")).unwrap(), b"kept");
    std::fs::remove_file(at.path("to/f")).unwrap();
    symlink(at.path("a.txt"), at.path("to/f")).unwrap();
    assert_eq!(merge(), json!(-32603));
    assert_eq!(std::fs::read(at.path("a.txt")).unwrap(), b"hello\n");
    std::fs::remove_file(at.path("to/f")).unwrap();
    std::fs::remove_dir(at.path("to/n")).unwrap();
    symlink(at.path("sub"), at.path("to/n")).unwrap();
    assert_eq!(merge(), json!(-32603));
}
