//! The hidden entry by which this binary confines itself and becomes a sandboxed program.

use std::process::ExitCode;

use codex_exec_server::sandbox::launcher;

/// Acts as the launcher if this process was started as one; returns only if it was and no program took its place.
pub(crate) fn launched() -> Option<ExitCode> {
    let arg0 = std::env::args_os().next();
    launcher::is_launcher(arg0.as_deref()).then(|| ExitCode::from(launcher::run()))
}
