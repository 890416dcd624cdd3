//! `codex doctor`: says what this machine lets the server do, and what would help.

use anyhow::Context;
use codex_exec_server::process::Groups;
use codex_exec_server::sandbox::{Confiner, NamespaceUse, PolicyBounds};

use crate::{output, sandbox};

/// Prints one line for each thing looked at. The exit code is 0 if all is well, else 1.
pub(crate) fn run() -> anyhow::Result<u8> {
    let confiner = Confiner::new(
        sandbox::LAUNCHER.into(),
        sandbox::surroundings(PolicyBounds::default()),
        NamespaceUse::Any,
    );
    let mut code = 0;
    for finding in confiner.abilities().findings() {
        let mark = if finding.good { "ok     " } else { "LIMITED" };
        code |= u8::from(!finding.good);
        output::line(&format!("{mark} {}: {}", finding.what, finding.said))
            .context("can't print the findings")?;
    }
    // Of this command's cgroup, since which server is meant can't be known. Resource limits do as well, so they are no fault.
    output::line(&format!("ok      limits: {}", Groups::describe())).context("can't print the findings")?;
    Ok(code)
}
