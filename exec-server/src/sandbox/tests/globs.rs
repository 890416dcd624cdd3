//! What patterns match, and that one walk finds it.

use super::super::PolicyBounds;
use super::*;

/// A tree with a symlink to a directory, one to a parent, and names that begin with dots.
fn tree() -> Place {
    let ground = Place::new();
    for name in ["a/.env", "a/b/.env", "a/b/c.key", "a/b/c/d.key", "a/x/y/z", "other/deep/f.key", "e/b/c"] {
        ground.file(name, "");
    }
    ground.link("a/link", "../other");
    ground.link("a/b/loop", "..");
    ground
}

#[test]
fn patterns_match_name_by_name() {
    let ground = tree();
    for (patterns, expected) in [
        (vec!["a/*"], "a/.env a/b a/link=other a/x"),
        (vec!["a/**"], "a/.env a/b a/link=other a/x"),
        (vec!["**/.env"], "a/.env a/b/.env"),
        (vec!["a/**/*.key"], "a/b/c.key a/b/c/d.key other/deep/f.key"),
        (vec!["*/b/c"], "a/b/c e/b/c"),
        (
            vec!["**/b/**/*.key", "*/.env"],
            "a/.env a/b/c.key a/b/c/d.key a/b/loop/link/deep/f.key=other/deep/f.key",
        ),
        (vec!["{a,e}/b/c"], "a/b/c e/b/c"),
        (vec!["{a/b,e}/c*"], "a/b/c a/b/c.key"),
        (vec!["{a/{b,x},e/b}/{c,y}"], "a/b/c a/x/y e/b/c"),
        (vec!["a/[bx]/?"], "a/b/c a/x/y"),
        (vec!["a/b/**/**"], "a/b/.env a/b/c a/b/c.key a/b/loop=a"),
        (vec!["none/**"], ""),
    ] {
        let entries: Vec<Value> = patterns.iter().map(|pattern| glob(&format!("@/{pattern}"))).collect();
        let rules = ground.rules(&json!([vec![special("root", "read")], entries].concat()), &json!({}));
        let names =
            ["a/.env", "a/b", "a/b/.env", "a/b/c", "a/b/c.key", "a/b/c/d.key", "a/x", "a/x/y", "e/b/c"];
        let mut denied: Vec<&str> = expected.split(' ').filter(|name| !name.is_empty()).collect();
        denied = denied.iter().map(|name| name.rsplit('=').next().expect("a name")).collect();
        for name in names.into_iter().chain(["other", "other/deep/f.key", "a", "e"]) {
            let expected = denied.iter().any(|top| Path::new(name).starts_with(top));
            assert_eq!(at(&rules, ground.at(name)) == Access::Denied, expected, "{name} under {patterns:?}");
        }
    }
}

#[test]
fn depth_counts_from_where_a_pattern_begins() {
    let ground = tree();
    for (depth, expected) in [(1, [false, false]), (2, [true, false]), (3, [true, true])] {
        let mut sandbox = ground.sandbox(&json!([special("root", "read"), glob("@/**/.env")]), &json!({}));
        let entries = json!([special("root", "read"), ground.fill(&glob("@/**/.env"))]);
        sandbox.permissions = serde_json::from_value(json!({"type": "managed", "network": "restricted",
            "file_system": {"type": "restricted", "entries": entries, "glob_scan_max_depth": depth}}))
        .expect("it decodes");
        let policy = resolve(&sandbox, &Surroundings::default()).expect("it resolves");
        let denied =
            ["a/.env", "a/b/.env"].map(|name| policy.files.access_at(&ground.at(name)) == Access::Denied);
        assert_eq!(denied, expected, "depth {depth}");
    }
}

#[test]
fn many_patterns_look_at_each_name_once() {
    let ground = Place::new();
    for directory in 0..20 {
        for file in 0..50 {
            ground.file(&format!("d{directory}/f{file}.txt"), "");
        }
    }
    let patterns = (0..15).map(|number| glob(&format!("@/**/*.k{number}")));
    let entries: Vec<Value> = [special("root", "read")].into_iter().chain(patterns).collect();
    let resolved = |scanned_names| {
        let bounds = PolicyBounds { scanned_names, ..PolicyBounds::default() };
        resolve(
            &ground.sandbox(&json!(entries), &json!({})),
            &Surroundings { bounds, ..Surroundings::default() },
        )
    };
    resolved(20 * 51).expect("each is looked at once");
    let error = resolved(20 * 51 - 1).expect_err("too many");
    assert!(error.to_string().contains("names to look at"), "{error}");
}

#[test]
fn many_matches_are_denied_one_by_one() {
    let ground = Place::new();
    for number in 0..3_000 {
        ground.file(&format!("w/d{}/{number}.key", number % 100), "");
    }
    let rules =
        ground.rules(&json!([special("root", "read"), path("@/w", "write"), glob("@/**/*.key")]), &json!({}));
    assert_eq!(rules.regions().iter().filter(|region| region.access == Access::Denied).count(), 3_000);
}
