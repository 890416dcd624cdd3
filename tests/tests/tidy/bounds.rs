//! A bound is declared in `limits`, or says why nobody has to set it. And who owns no clock has none.

use crate::rooms::source::without_tests;
use crate::tree;

/// How the names of constants begin or end that bound something.
const BEGINNINGS: [&str; 6] = ["MOST_", "LONGEST_", "LARGEST_", "MAX_", "SHORTEST_", "LEAST_"];
const ENDS: [&str; 6] = ["_BYTES", "_TIME", "_PAUSE", "_GRACE", "_LIFE", "_TIMEOUT"];
/// What its comment says of a constant that is no limit.
const REASONS: [&str; 6] = [
    "Fixed by the wire.",
    "Fixed by the kernel.",
    "Fixed by the library.",
    "Chosen for speed.",
    "A safeguard, far from any real use.",
    "Our own pace: nothing outside depends on it.",
];

#[test]
fn what_bounds_something_is_a_limit_or_says_why_not() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (path, text) in tree::files(&[".rs"]) {
        let product = path.contains("/src/") && !path.contains("/protocol/") && !path.contains("/tests");
        let ours = ["bench/", "fuzz/", "limits/", "tests/"].iter().any(|folder| path.starts_with(folder));
        if !product || ours || path.ends_with("testing.rs") || path.ends_with("limits.rs") {
            continue;
        }
        let text = without_tests(&text);
        let mut comment = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("///") {
                comment.push_str(words);
                continue;
            }
            if let Some(name) = bound(line) {
                count += 1;
                if !REASONS.iter().any(|reason| comment.contains(reason)) {
                    wrong.push(format!("{path}: {name}"));
                }
            }
            if !line.starts_with("#[") {
                comment.clear();
            }
        }
    }
    assert!(count > 80, "only {count} constants were found: does this test still see them?");
    assert!(
        wrong.is_empty(),
        "declare these in limits/, or end their comments with one of {REASONS:?}:\n{}",
        wrong.join("\n")
    );
}

/// The name of the constant that a line declares, if it bounds something.
fn bound(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("const ")?;
    let (name, kind) = rest.split_once(": ")?;
    let declares = before.is_empty() || before.starts_with("pub");
    let number =
        ["usize", "u64", "u32", "Duration", "SignedDuration", "libc::"].iter().any(|n| kind.starts_with(n));
    let bounds = BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || ENDS.iter().any(|end| name.ends_with(end));
    (declares && number && bounds).then_some(name)
}

#[test]
fn the_relay_has_no_runtime_and_no_clock() {
    let manifest = std::fs::read_to_string(tree::root().join("relay/Cargo.toml")).expect("a manifest");
    for runtime in ["tokio", "futures", "async", "mio", "reqwest", "hyper"] {
        assert!(!manifest.contains(runtime), "relay/Cargo.toml names {runtime}");
    }
    let sources = tree::files(&[".rs"]).into_iter().filter(|(path, _)| path.starts_with("relay/src/"));
    for (path, text) in sources.filter(|(path, _)| !path.contains("tests") && !path.ends_with("schedules.rs"))
    {
        let text = without_tests(&text);
        for clock in ["Instant::now", "SystemTime", ".elapsed()", "std::net", "std::thread", "sleep"] {
            assert!(!text.contains(clock), "{path} uses {clock}");
        }
    }
}
