//! `envPolicy` and its wildcards (8.2).
#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::ffi::OsString;

use codex_exec_protocol::process::EnvPolicy;
use codex_exec_server::process::child_env::child_environment;
use codex_fuzz::target;

target!(|input: (&str, &str, &str)| {
    let (pattern, name, json) = input;
    let server: Vec<(OsString, OsString)> = vec![(name.into(), "1".into()), ("PATH".into(), "/bin".into())];
    let env = BTreeMap::from([("GIVEN".to_owned(), "2".to_owned())]);
    let fixed = serde_json::json!({
        "inherit": "all", "ignoreDefaultExcludes": true, "exclude": [pattern], "set": {}, "includeOnly": [],
    });
    for policy in [serde_json::from_value::<EnvPolicy>(fixed), serde_json::from_str(json)] {
        let Ok(policy) = policy else { continue };
        let child = child_environment(&server, Some(&policy), &env, false, None);
        assert!(child.iter().any(|(name, value)| name == "GIVEN" && value == "2"), "what was asked is there");
        assert!(child.is_sorted_by(|a, b| a.0 < b.0), "each name once");
    }
});
