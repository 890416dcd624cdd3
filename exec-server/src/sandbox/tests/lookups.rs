//! Whether a policy may be used again: only while everything it was made from is as it was.

use super::*;
use crate::sandbox::lookups::Lookups;
use crate::sandbox::resolve::resolve_by;

type Change = fn(&Place);

#[test]
fn a_policy_is_used_again_only_while_all_that_was_looked_up_is_as_it_was() {
    let entries = json!([
        special("root", "read"),
        special("project_roots", "write"),
        path("@/link/cache", "write"),
        path("@/later", "write"),
        path("@/closed", "deny"),
    ]);
    let cases: [(&str, bool, Change); 12] = [
        ("nothing", true, |_| {}),
        ("other files", true, |at| {
            at.file("w/src/new", "x");
        }),
        ("content of what is only named", true, |at| {
            at.file("closed/secret", "y");
        }),
        ("a protected name that came to be", false, |at| {
            at.file("w/.codex/x", "");
        }),
        ("a name that came to be", false, |at| {
            at.file("later/x", "");
        }),
        ("a root that was made anew", false, |at| {
            std::fs::rename(at.at("w"), at.at("w2")).expect("renamed");
            at.file("w/x", "");
        }),
        ("a root that became a symlink", false, |at| {
            std::fs::rename(at.at("w"), at.at("w2")).expect("renamed");
            at.link("w", "w2");
        }),
        ("a symlink that leads elsewhere", false, |at| {
            std::fs::remove_file(at.at("link")).expect("removed");
            at.link("link", "other2");
        }),
        ("what a symlink leads to", false, |at| {
            std::fs::remove_dir_all(at.at("other/cache")).expect("removed");
        }),
        ("where .git leads", false, |at| {
            at.file("w/.git", "gitdir: ../repo3");
        }),
        ("what .git leads to", false, |at| {
            std::fs::rename(at.at("repo2"), at.at("gone")).expect("renamed");
        }),
        ("what is denied", false, |at| std::fs::remove_dir_all(at.at("closed")).expect("removed")),
    ];
    for (name, same, change) in cases {
        let ground = Place::new();
        ground
            .file("w/src/x", "")
            .file("other/cache/x", "")
            .file("other2/cache/x", "")
            .file("closed/secret", "");
        ground.file("repo2/config", "").file("repo3/config", "").file("w/.git", "gitdir: ../repo2");
        ground.link("link", "other");
        let sandbox = ground.sandbox(&entries, &json!({"cwd": "@/w"}));
        let mut lookups = Lookups::default();
        resolve_by(&sandbox, &Surroundings::default(), &[], &mut lookups).expect("it resolves");
        assert!(lookups.still_hold(), "{name}, before");
        change(&ground);
        assert_eq!(lookups.still_hold(), same, "{name}");
    }
}

#[test]
fn a_policy_with_a_pattern_is_looked_up_each_time() {
    let ground = Place::new();
    let sandbox = ground.sandbox(&json!([special("root", "read"), glob("@/*.key")]), &json!({"cwd": "@"}));
    let mut lookups = Lookups::default();
    resolve_by(&sandbox, &Surroundings::default(), &[], &mut lookups).expect("it resolves");
    assert!(!lookups.still_hold(), "a name may come to match at any time");
}
