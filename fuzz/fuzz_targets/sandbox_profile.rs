//! Sandbox profiles (7.3): what is taken is written as it was read.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_protocol::sandbox::Sandbox;
use codex_fuzz::target;

target!(|text: &str| {
    let Ok(sandbox) = serde_json::from_str::<Sandbox>(text) else { return };
    let written = serde_json::to_string(&sandbox).expect("a sandbox can be written");
    let again: Sandbox = serde_json::from_str(&written).expect("and read again");
    assert_eq!(again.needs_enforcement_for_files(), sandbox.needs_enforcement_for_files(), "{written}");
    assert_eq!(again.needs_enforcement_for_programs(), sandbox.needs_enforcement_for_programs(), "{written}");
});
