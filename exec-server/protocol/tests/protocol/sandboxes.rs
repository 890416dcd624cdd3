//! Section 7.3: the recorded trials, the union of all releases, and what needs enforcing.

use codex_exec_protocol::filesystem::ReadFileParams;
use codex_exec_protocol::sandbox::{Permissions, Sandbox};
use serde_json::{Value, json};

use crate::recorded;

const TRIALS_169: &str = include_str!("../../../../tests/vectors/sandbox-shape.0.169.0.jsonl");
const TRIALS_131: &str = include_str!("../../../../tests/vectors/sandbox-shape.0.131.0.jsonl");

fn trials(text: &str) -> Vec<(Value, Option<i64>)> {
    let requests = recorded::answered(text).into_iter().filter(|(asked, _)| asked["method"] == "fs/readFile");
    requests.map(|(asked, answer)| (asked["params"].clone(), answer["error"]["code"].as_i64())).collect()
}

fn decodes(params: &Value) -> bool {
    serde_json::from_value::<ReadFileParams>(params.clone()).is_ok()
}

#[test]
fn the_trials_on_0_169_come_out_the_same() {
    let trials = trials(TRIALS_169);
    assert!(trials.len() > 75, "only {} trials", trials.len());
    let mut deviations = Vec::new();
    for (params, code) in trials {
        assert!(matches!(code, None | Some(-32602)), "{params}");
        if decodes(&params) != code.is_none() {
            deviations.push(params["sandbox"].clone());
        }
    }
    // On purpose, for older clients: a native path (dialect A).
    let rules = |path: &str| {
        json!({"permissions": {"type": "managed", "network": "restricted", "file_system": {"type": "restricted",
            "entries": [{"path": {"type": "path", "path": path}, "access": "read"}]}}, "windowsSandboxLevel": "disabled"})
    };
    assert_eq!(deviations, Vec::<Value>::new());
    assert!(decodes(&json!({"path": "/a", "sandbox": rules("/srv")})));
    // And the untagged form, which is always enforced.
    assert!(decodes(
        &json!({"path": "/a", "sandbox": {"permissions": {}, "windowsSandboxLevel": "disabled"}})
    ));
}

#[test]
fn what_0_131_took_is_taken_still() {
    for (params, code) in trials(TRIALS_131) {
        let sandbox = &params["sandbox"];
        // Newer releases gave these members a meaning and a type, or refuse arrays for objects.
        let newer = ["workspaceRoots", "windowsSandboxProxySettingsMode", "sandboxOverride", "policyContext"];
        if code.is_none() && !sandbox.is_array() && !newer.iter().any(|name| sandbox.get(name).is_some()) {
            assert!(decodes(&params), "{params}");
        }
    }
}

fn sandbox(permissions: &Value, more: Value) -> Result<Sandbox, serde_json::Error> {
    let mut all = json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all)
}

fn managed(entries: &Value) -> Value {
    json!({"type": "managed", "network": "enabled", "file_system": {"type": "restricted", "entries": entries}})
}

fn special(value: &Value, access: &str) -> Value {
    json!({"path": {"type": "special", "value": value}, "access": access})
}

#[test]
fn every_word_of_every_release_decodes_and_survives() {
    let entries = json!([
        special(&json!({"kind": "root"}), "read"),
        special(&json!({"kind": "minimal"}), "read"),
        special(&json!({"kind": "current_working_directory"}), "write"),
        special(&json!({"kind": "project_roots"}), "write"),
        special(&json!({"kind": "project_roots", "subpath": ".git"}), "read"),
        special(&json!({"kind": "tmpdir"}), "write"),
        special(&json!({"kind": "slash_tmp"}), "write"),
        special(&json!({"kind": "unknown", "path": ":x"}), "deny"),
        {"path": {"type": "path", "path": "file:///srv/a%20b"}, "access": "deny"},
        {"path": {"type": "path", "path": "/srv/native"}, "access": "none", "missing_path_behavior": "skip"},
        {"path": {"type": "glob_pattern", "pattern": "**/*.env"}, "access": "deny", "more": 1},
    ]);
    let mut profile = managed(&entries);
    profile["file_system"]["glob_scan_max_depth"] = 3.into();
    for level in ["disabled", "restricted-token", "elevated", "mxc"] {
        let more = json!({"cwd": "/srv", "workspaceRoots": ["file:///srv", "/other"], "windowsSandboxLevel": level,
            "windowsSandboxPrivateDesktop": true, "windowsSandboxProxySettingsMode": "preserve",
            "useLegacyLandlock": true, "sandboxOverride": "bypassSandboxFirstAttempt", "policyContext": {"x": 1}});
        let first = sandbox(&profile, more).unwrap();
        let again: Sandbox = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        assert_eq!(first, again);
    }
}

#[test]
fn arrays_are_no_objects_and_relative_paths_no_paths() {
    for permissions in [
        json!([]),
        json!(["disabled"]),
        json!({"type": "managed", "network": "enabled", "file_system": ["unrestricted"]}),
        managed(&json!([[{"type": "path", "path": "/a"}, "read"]])),
        managed(&json!([{"path": ["path", "/a"], "access": "read"}])),
        managed(&json!([{"path": {"type": "special", "value": ["root"]}, "access": "read"}])),
        managed(&json!([{"path": {"type": "path", "path": "a"}, "access": "read"}])),
        managed(&json!([special(&json!({"kind": "unknown"}), "read")])),
    ] {
        assert!(sandbox(&permissions, json!({})).is_err(), "{permissions}");
    }
    assert!(serde_json::from_value::<Sandbox>(json!([{"type": "disabled"}, "disabled"])).is_err());
}

#[test]
fn paths_of_other_systems_are_left_to_whoever_makes_the_sandbox() {
    for path in ["file://other/a", "file:///C:/x"] {
        let permissions = managed(&json!([{"path": {"type": "path", "path": path}, "access": "read"}]));
        assert!(sandbox(&permissions, json!({})).is_ok(), "{path}");
    }
}

#[test]
fn missing_workspace_roots_are_not_empty_ones() {
    let disabled = json!({"type": "disabled"});
    assert_eq!(sandbox(&disabled, json!({})).unwrap().workspace_roots, None);
    assert_eq!(sandbox(&disabled, json!({"workspaceRoots": []})).unwrap().workspace_roots, Some(Vec::new()));
    for null in
        ["workspaceRoots", "useLegacyLandlock", "sandboxOverride", "windowsSandboxLevel", "permissions"]
    {
        assert!(sandbox(&disabled, json!({null: null})).is_err(), "{null}");
    }
    for null in ["cwd", "windowsSandboxProxySettingsMode", "policyContext"] {
        assert!(sandbox(&disabled, json!({null: null})).is_ok(), "{null}");
    }
}

#[test]
fn places_relative_to_cwd_need_one() {
    for (entry, needs) in [
        (special(&json!({"kind": "project_roots"}), "write"), true),
        (special(&json!({"kind": "current_working_directory"}), "write"), true),
        (special(&json!({"kind": "root"}), "write"), false),
        (special(&json!({"kind": "tmpdir"}), "write"), false),
        (json!({"path": {"type": "glob_pattern", "pattern": "*.env"}, "access": "deny"}), true),
        (json!({"path": {"type": "glob_pattern", "pattern": "/srv/*.env"}, "access": "deny"}), false),
    ] {
        let profile = managed(&json!([entry]));
        assert_eq!(sandbox(&profile, json!({})).is_err(), needs, "{entry}");
        assert_eq!(sandbox(&profile, json!({"cwd": null})).is_err(), needs, "{entry}");
        assert!(sandbox(&profile, json!({"cwd": "file:///srv"})).is_ok(), "{entry}");
    }
}

#[test]
fn only_what_allows_everything_runs_plainly() {
    let root = |access: &str| special(&json!({"kind": "root"}), access);
    let unrestricted = |network: &str| json!({"type": "managed", "network": network, "file_system": {"type": "unrestricted"}});
    let deny = json!({"path": {"type": "path", "path": "/srv/secret"}, "access": "deny"});
    // Profile, needed for programs, needed for files.
    for (profile, programs, files) in [
        (json!({"type": "disabled"}), false, false),
        (json!({"type": "external", "network": "enabled"}), false, false),
        (json!({"type": "external", "network": "restricted"}), true, false),
        (unrestricted("enabled"), false, false),
        (unrestricted("restricted"), true, false),
        (managed(&json!([])), true, true),
        (managed(&json!([root("read")])), true, true),
        (managed(&json!([root("write")])), true, false),
        (managed(&json!([root("read"), root("write")])), true, false),
        (managed(&json!([root("write"), deny])), true, true),
        (managed(&json!([root("write"), root("none")])), true, true),
        (managed(&json!([{"path": {"type": "path", "path": "/"}, "access": "write"}])), true, true),
        (json!({}), true, true),
        (json!({"network": {"enabled": true}}), true, true),
    ] {
        let decoded = sandbox(&profile, json!({})).unwrap();
        assert_eq!(decoded.needs_enforcement_for_programs(), programs, "{profile}");
        assert_eq!(decoded.needs_enforcement_for_files(), files, "{profile}");
        assert_eq!(matches!(decoded.permissions, Permissions::Untagged(_)), profile.get("type").is_none());
    }
}
