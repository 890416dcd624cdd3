//! One kind of lock: parking_lot's, which knows no poison. Where a library asks for the standard one, a comment says so.

use crate::rooms::source::without_tests;
use crate::tree;

const LOCKS: [&str; 3] = ["Mutex", "RwLock", "Condvar"];

#[test]
fn the_standard_library_s_locks_are_used_for_a_reason() {
    let mut wrong = Vec::new();
    for (path, text) in tree::files(&[".rs"]) {
        let product = path.contains("/src/") && !path.contains("/tests");
        if !product || ["bench/", "fuzz/", "tests/"].iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let text = without_tests(&text);
        let mut before = "";
        for line in text.lines().map(str::trim) {
            let names_one = line.split_once("std::sync::").is_some_and(|(_, names)| {
                names.split(|c: char| !c.is_alphanumeric()).any(|name| LOCKS.contains(&name))
            });
            if names_one && !before.starts_with("//") {
                wrong.push(format!("{path}: {line}"));
            }
            before = line;
        }
    }
    assert!(wrong.is_empty(), "take parking_lot's, or say why not in the line above:\n{}", wrong.join("\n"));
}
