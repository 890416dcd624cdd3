//! The variables that a login shell starts from.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Names and values.
pub(super) type Variables = [(OsString, OsString)];

/// Variables that differ from command to command and that no start-up file is about.
const PASSING: [&str; 6] = ["CODEX_THREAD_ID", "CODEX_TOOL_CALL_ID", "OLDPWD", "PWD", "SHLVL", "_"];

/// Whether a variable belongs to one command and not to its environment.
pub(super) fn is_passing(name: &OsStr) -> bool {
    PASSING.iter().any(|passing| name == *passing)
}

/// The home directory as shells see it.
pub(super) fn home(env: &Variables) -> Option<PathBuf> {
    env.iter().find(|(name, _)| name == "HOME").map(|(_, home)| home.into())
}
