//! The profile without `type`, and older clients' wrappers (15.3).

use serde_json::json;

use super::super::{NetworkRight, unwrap};
use super::*;

fn sandbox(permissions: &Value) -> Sandbox {
    serde_json::from_value(json!({"permissions": permissions, "windowsSandboxLevel": "disabled"}))
        .expect("it decodes")
}

#[test]
fn the_form_without_type_allows_what_it_says_and_no_more() {
    let place = Place::new();
    place.directory("w").directory("r");
    for (permissions, network, written, read) in [
        (json!({}), NetworkRight::Closed, Access::Hidden, Access::Hidden),
        (json!({"network": null, "file_system": null}), NetworkRight::Closed, Access::Hidden, Access::Hidden),
        (json!({"network": {"enabled": true}}), NetworkRight::Open, Access::Hidden, Access::Hidden),
        (
            json!({"file_system": {"read": ["@/r"], "write": ["@/w"]}}),
            NetworkRight::Closed,
            Access::Write,
            Access::Read,
        ),
        (
            json!({"file_system": {"entries": [path("@/w", "write"), path("@/r", "read")]}}),
            NetworkRight::Closed,
            Access::Write,
            Access::Read,
        ),
    ] {
        let permissions = place.fill(&permissions);
        let policy = resolve(&sandbox(&permissions), &Surroundings::default()).expect("it resolves");
        assert_eq!(policy.network, network, "{permissions}");
        assert_eq!(policy.files.access_at(&place.at("w")), written, "{permissions}");
        assert_eq!(policy.files.access_at(&place.at("r")), read, "{permissions}");
    }
    for unknown in [
        json!({"files": {}}),
        json!({"network": {"enabled": 1}}),
        json!({"network": {"domains": []}}),
        json!({"file_system": {"read": [], "deny": []}}),
        json!({"file_system": []}),
    ] {
        resolve(&sandbox(&unknown), &Surroundings::default()).expect_err(&unknown.to_string());
    }
}

#[test]
fn an_older_clients_wrapper_is_replaced_by_its_profile() {
    let profile = json!({"type": "managed", "network": "restricted", "file_system": {"type": "restricted",
        "entries": [special("root", "read"), special("project_roots", "write")]}});
    let start = ["/opt/x/codex-linux-sandbox", "--sandbox-policy-cwd", "/srv", "--command-cwd", "/srv/a"];
    let files = json!({"kind": "restricted", "entries": [special("root", "read")]}).to_string();
    let new = ["--permission-profile", &profile.to_string()].map(str::to_owned);
    let old = [
        "--sandbox-policy",
        "{}",
        "--file-system-sandbox-policy",
        &files,
        "--network-sandbox-policy",
        "\"restricted\"",
    ]
    .map(str::to_owned);
    for flags in [new.as_slice(), &old] {
        let mut argv: Vec<String> = start.map(str::to_owned).to_vec();
        argv.extend_from_slice(flags);
        argv.extend(["--", "true", "--", "x"].map(str::to_owned));
        let found = unwrap(&argv).expect("it is understood").expect("it is a wrapper");
        assert_eq!(found.argv, ["true", "--", "x"]);
        assert_eq!(found.cwd.as_deref(), Some(Path::new("/srv/a")));
        assert_eq!(found.sandbox.cwd.as_ref().map(|cwd| cwd.0.as_path()), Some(Path::new("/srv")));
        let policy = resolve(&found.sandbox, &Surroundings::default()).expect("it resolves");
        assert_eq!(policy.files.access_at(Path::new("/etc/hostname")), Access::Read);
        assert_eq!(policy.network, NetworkRight::Closed);
    }
}

#[test]
fn other_programs_are_no_wrappers_and_odd_wrappers_are_refused() {
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for plain in
        [&["true"][..], &["codex-linux-sandbox", "--", "true"], &["/x/codex-linux-sandbox2", "--"], &[]]
    {
        assert_eq!(unwrap(&argv(plain)).expect("no wrapper"), None, "{plain:?}");
    }
    let wrapper = "/x/codex-linux-sandbox";
    for odd in [
        &[wrapper][..],
        &[wrapper, "--"],
        &[wrapper, "--", "true"],
        &[wrapper, "--sandbox-policy-cwd", "/", "--", "true"],
        &[wrapper, "--sandbox-policy-cwd"],
        &[wrapper, "--sandbox-policy-cwd", "/", "--permission-profile", "{", "--", "true"],
        &[
            wrapper,
            "--sandbox-policy-cwd",
            "x",
            "--permission-profile",
            "{\"type\":\"disabled\"}",
            "--",
            "true",
        ],
        &[
            wrapper,
            "--allow-everything",
            "--sandbox-policy-cwd",
            "/",
            "--permission-profile",
            "{}",
            "--",
            "true",
        ],
    ] {
        unwrap(&argv(odd)).expect_err(&odd.join(" "));
    }
}
