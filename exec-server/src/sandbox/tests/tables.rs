//! The rows of 14.1 and 14.2, and what the issue adds to them, on the policy alone.

use serde_json::json;

use super::super::NetworkRight;
use super::*;

const CWD: &str = "@/w";

fn workspace() -> Place {
    let place = Place::new();
    place
        .directory("w/.git/hooks")
        .directory("w/src")
        .file("w/src/a.rs", "x")
        .directory("tmp")
        .directory("other");
    place.file("other/secret", "s");
    place
}

#[test]
fn each_row_of_the_table_gives_what_it_says() {
    use Access::{Denied, Hidden, Read, Write};
    let place = workspace();
    let cwd = json!({"cwd": CWD});
    let roots = json!({"cwd": CWD, "workspaceRoots": [CWD]});
    let empty = json!({"cwd": CWD, "workspaceRoots": []});
    let root = special("root", "read");
    let project = special("project_roots", "write");
    // Name, entries, more, and then: w/src/a.rs, w/.git/hooks, other/secret, /usr/bin/env.
    let rows = [
        ("root read", json!([root]), &cwd, [Read, Read, Read, Read]),
        ("root read, project write", json!([root, project]), &cwd, [Write, Read, Read, Read]),
        ("the same with roots", json!([root, project]), &roots, [Write, Read, Read, Read]),
        ("the same with no roots", json!([root, project]), &empty, [Read, Read, Read, Read]),
        ("an explicit .git", json!([root, project, sub(".git", "read")]), &cwd, [Write, Read, Read, Read]),
        (
            "an explicit .git for writing",
            json!([root, project, sub(".git", "write")]),
            &cwd,
            [Write, Write, Read, Read],
        ),
        ("below .git", json!([root, project, sub(".git/hooks", "write")]), &cwd, [Write, Write, Read, Read]),
        (
            "the same by its path",
            json!([root, project, path("@/w/.git", "write")]),
            &cwd,
            [Write, Write, Read, Read],
        ),
        (
            "in .git, and denied in there",
            json!([root, project, sub(".git", "write"), path("@/w/.git/hooks", "deny")]),
            &cwd,
            [Write, Denied, Read, Read],
        ),
        ("single path", json!([path("@/w/src", "write")]), &cwd, [Write, Hidden, Hidden, Read]),
        ("a root by its path", json!([root, path("@/w", "write")]), &cwd, [Write, Read, Read, Read]),
        ("empty", json!([]), &cwd, [Hidden, Hidden, Hidden, Read]),
        ("minimal", json!([special("minimal", "read")]), &cwd, [Hidden, Hidden, Hidden, Read]),
        ("deny", json!([root, path("@/other", "deny")]), &cwd, [Read, Read, Denied, Read]),
        ("none", json!([root, path("@/other/secret", "none")]), &cwd, [Read, Read, Denied, Read]),
        (
            "a grant in what is denied",
            json!([root, path("@/other", "deny"), path("@/other/secret", "write")]),
            &cwd,
            [Read, Read, Write, Read],
        ),
        (
            "a grant and a denial of the same",
            json!([root, path("@/other", "write"), path("@/other", "deny")]),
            &cwd,
            [Read, Read, Denied, Read],
        ),
        (
            "a workspace in what is denied",
            json!([root, path("@", "deny"), project]),
            &cwd,
            [Write, Read, Denied, Read],
        ),
        (
            "everything denied, the system and a workspace granted",
            json!([special("root", "deny"), special("minimal", "read"), project]),
            &cwd,
            [Write, Read, Hidden, Read],
        ),
        (
            "everything denied but a workspace",
            json!([special("root", "deny"), project]),
            &cwd,
            [Write, Read, Hidden, Hidden],
        ),
        (
            "the system is denied where a rule says so",
            json!([path("/usr/bin", "deny"), project]),
            &cwd,
            [Write, Read, Hidden, Denied],
        ),
        (
            "a pattern in what is granted in its own match",
            json!([root, glob("@/**/s*"), path("@/w/src", "write"), path("@/w/src/a.rs", "read")]),
            &cwd,
            [Read, Read, Denied, Read],
        ),
        (
            "read inside write",
            json!([path("@/w", "write"), path("@/w/src", "read")]),
            &cwd,
            [Read, Read, Hidden, Read],
        ),
        (
            "write inside read inside write",
            json!([path("@/w", "write"), path("@/w/src", "read"), path("@/w/src/a.rs", "write")]),
            &cwd,
            [Write, Read, Hidden, Read],
        ),
        ("glob", json!([root, glob("@/other/*")]), &cwd, [Read, Read, Denied, Read]),
        ("glob over levels", json!([root, glob("@/**/*.rs")]), &cwd, [Denied, Read, Read, Read]),
        ("relative glob", json!([root, glob("src/*.rs")]), &cwd, [Denied, Read, Read, Read]),
        ("a pattern without wildcards", json!([root, glob("@/other")]), &cwd, [Read, Read, Denied, Read]),
        ("cwd", json!([special("current_working_directory", "read")]), &cwd, [Read, Read, Hidden, Read]),
        (
            "root write narrowed",
            json!([special("root", "write"), path("@/other", "deny")]),
            &cwd,
            [Write, Write, Denied, Write],
        ),
    ];
    for (name, entries, more, expected) in rows {
        let rules = place.rules(&entries, more);
        let got = ["w/src/a.rs", "w/.git/hooks", "other/secret"].map(|below| at(&rules, place.at(below)));
        assert_eq!([got[0], got[1], got[2], at(&rules, "/usr/bin/env")], expected, "{name}");
    }
}

#[test]
fn profiles_without_rules_for_files_restrict_none() {
    let all = [
        (json!({"type": "disabled"}), NetworkRight::Open),
        (json!({"type": "external", "network": "enabled"}), NetworkRight::Open),
        (json!({"type": "external", "network": "restricted"}), NetworkRight::Closed),
        (
            json!({"type": "managed", "network": "restricted", "file_system": {"type": "unrestricted"}}),
            NetworkRight::Closed,
        ),
        (
            json!({"type": "managed", "network": "restricted",
                "file_system": {"type": "restricted", "entries": [special("root", "write")]}}),
            NetworkRight::Closed,
        ),
    ];
    for (permissions, network) in all {
        let sandbox = json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
        let sandbox: Sandbox = serde_json::from_value(sandbox).expect("it decodes");
        let policy = resolve(&sandbox, &Surroundings::default()).expect("it resolves");
        assert_eq!(policy, Policy { files: Files::All, network }, "{permissions}");
    }
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let place = workspace();
    place.link("w/planted", "../other").link("good", "w");
    let unknown =
        json!({"path": {"type": "special", "value": {"kind": "unknown", "path": ":x"}}, "access": "read"});
    let glob_read = json!({"path": {"type": "glob_pattern", "pattern": "/a/*"}, "access": "read"});
    let project = special("project_roots", "write");
    for (name, entries, said) in [
        ("an unknown place", json!([unknown]), "unknown place"),
        ("..", json!([path("@/w/../other", "write")]), "`..`"),
        (".. below a root", json!([sub("../other", "write")]), "`..`"),
        ("an absolute subpath", json!([sub("/etc", "write")]), "`..`"),
        ("a pattern that grants", json!([glob_read]), "only deny"),
        ("a broken pattern", json!([glob("/a/[")]), "can't be used"),
        (".. in a pattern", json!([glob("/a/*/../b")]), "`..`"),
        ("a planted link", json!([project, path("@/w/planted", "write")]), "symlink"),
        ("a planted link for reading", json!([project, path("@/w/planted", "read")]), "symlink"),
    ] {
        let error = place.try_resolve(&entries, &json!({"cwd": CWD})).expect_err(name).to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
    // A link that no confined program can change is followed.
    let rules = place.rules(&json!([path("@/good", "write")]), &json!({}));
    assert_eq!(at(&rules, place.at("w/src")), Access::Write);
    assert_eq!(
        rules.links().map(|(at, _)| at.to_owned()).find(|at| at.ends_with("good")),
        Some(place.at("good"))
    );
}

#[test]
fn missing_names_are_held_where_a_program_could_create_them() {
    let place = workspace();
    let project = special("project_roots", "write");
    let skipped = |mut entry: Value| {
        entry["missing_path_behavior"] = json!("skip");
        entry
    };
    let skip = skipped(sub(".codex", "read"));
    let skipped_denial = skipped(sub(".codex", "deny"));
    let held = |entries| -> Vec<String> {
        let rules = place.rules(&entries, &json!({"cwd": CWD}));
        let names = rules.placeholders().iter();
        names.map(|path| path.strip_prefix(place.root()).expect("below").to_string_lossy().into()).collect()
    };
    for (name, entries, expected) in [
        ("the protected names", json!([project]), vec!["w/.codex", "w/.agents"]),
        ("one is skipped", json!([project, skip]), vec!["w/.agents"]),
        ("a skipped denial opens nothing", json!([project, skipped_denial]), vec!["w/.codex", "w/.agents"]),
        ("nothing writable", json!([special("root", "read"), path("@/w/none", "deny")]), vec![]),
        (
            "denied and missing",
            json!([path("@/w/src", "write"), path("@/w/src/x/y", "deny")]),
            vec!["w/src/x/y"],
        ),
        ("read and missing", json!([path("@/w/src", "write"), path("@/w/src/r", "read")]), vec!["w/src/r"]),
        ("write and missing", json!([path("@/w/src", "write"), path("@/w/src/r", "write")]), vec![]),
        ("one is granted", json!([project, sub(".codex", "write")]), vec!["w/.agents"]),
        (
            "something in one is granted",
            json!([project, sub(".codex/tmp", "write")]),
            vec!["w/.codex", "w/.agents"],
        ),
    ] {
        assert_eq!(held(entries), expected, "{name}");
    }
}

#[test]
fn an_entry_for_reading_a_protected_name_that_is_a_link_narrows_and_opens_nothing() {
    let place = Place::new();
    place.directory("w/.git").directory("open").directory("denied").link("w/.agents", "../open");
    place.link("w/.codex", "../denied");
    let more = json!({"cwd": "file://@/w"});
    let entries = |root: &str| {
        json!([
            special("root", root),
            special("project_roots", "write"),
            sub(".agents", "read"),
            sub(".codex", "read"),
            path("@/denied", "deny")
        ])
    };
    for root in ["read", "write"] {
        let rules = place.rules(&entries(root), &more);
        assert_eq!(at(&rules, place.at("open/x")), Access::Read, "root {root}");
        assert_eq!(at(&rules, place.at("denied/x")), Access::Denied, "root {root}");
        assert_eq!(at(&rules, place.at("w/x")), Access::Write, "root {root}");
        assert_eq!(at(&rules, place.at("w/.agents")), Access::Read, "root {root}: the link stays");
    }
    // What was hidden stays so.
    let hidden =
        json!([special("project_roots", "write"), sub(".agents", "read"), special("minimal", "read")]);
    assert_eq!(at(&place.rules(&hidden, &more), place.at("open/x")), Access::Hidden);
    // Where nobody could have put it, the link is followed.
    let read = json!([special("project_roots", "read"), sub(".agents", "read"), special("minimal", "read")]);
    assert_eq!(at(&place.rules(&read, &more), place.at("open/x")), Access::Read);
}

#[test]
fn links_under_protected_names_protect_their_targets_too() {
    let place = workspace();
    place.directory("w/real").link("w/.codex", "real").directory("w/gits/x").file("w/sub/keep", "");
    place.file("s/.git", "gitdir: ../w/gits/x\n");
    let entries = json!([special("project_roots", "write")]);
    let rules = place.rules(&entries, &json!({"cwd": CWD, "workspaceRoots": ["@/w", "@/s"]}));
    for (below, access) in [
        ("w/.codex", Access::Read),
        ("w/real/config", Access::Read),
        ("w/sub/keep", Access::Write),
        ("s/.git", Access::Read),
        ("w/gits/x/HEAD", Access::Read),
        ("w/gits", Access::Write),
    ] {
        assert_eq!(at(&rules, place.at(below)), access, "{below}");
    }
}

#[test]
fn regions_are_the_places_where_access_changes() {
    let place = workspace();
    let rules = place.rules(
        &json!([
            special("root", "read"),
            special("project_roots", "write"),
            path("@/w/src/a.rs", "read"),
            path("@/other", "deny"),
            path("@/other/secret", "read"),
            path("@/tmp", "read")
        ]),
        &json!({"cwd": CWD}),
    );
    let shown: Vec<_> = rules.regions().into_iter().map(|region| (region.path, region.access)).collect();
    let expected = [
        ("other", Access::Denied),
        ("other/secret", Access::Read),
        ("w", Access::Write),
        ("w/.agents", Access::Read),
        ("w/.codex", Access::Read),
        ("w/.git", Access::Read),
        ("w/src/a.rs", Access::Read),
    ];
    assert_eq!(shown, expected.map(|(below, access)| (place.at(below), access)));
    assert!(rules.narrows_inside());
    assert!(
        !place.rules(&json!([special("root", "read"), path("@/tmp", "write")]), &json!({})).narrows_inside()
    );
    assert!(!place.rules(&json!([path("@/tmp", "write")]), &json!({})).narrows_inside());
}
