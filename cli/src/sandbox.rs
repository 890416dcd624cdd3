//! `codex sandbox`: tries a policy by hand; and what the sandbox needs to know of this process.

use std::path::PathBuf;

use codex_exec_server::sandbox::Surroundings;

/// This very binary, even if its file was replaced since.
pub(crate) const LAUNCHER: &str = "/proc/self/exe";

/// What a profile's words mean for this user.
pub(crate) fn surroundings() -> Surroundings {
    let tmpdir = std::env::var_os("TMPDIR").map(PathBuf::from);
    Surroundings { tmpdir: tmpdir.filter(|path| path.is_absolute()) }
}
