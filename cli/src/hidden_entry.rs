//! The hidden entries by which this binary confines itself and becomes a sandboxed program, or keeps a server's programs
//! from outliving it.

use std::process::ExitCode;

use codex_children::guard;
use codex_exec_server::sandbox::launcher;

/// Acts as the launcher or guard if this process was started as one; returns only if it was, and no program took its
/// place.
pub(crate) fn run() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let arg0 = arguments.next();
    if guard::is_guard(arg0.as_deref()) {
        return Some(ExitCode::from(guard::run(arguments)));
    }
    launcher::is_launcher(arg0.as_deref()).then(|| ExitCode::from(launcher::run()))
}
