//! `codex doctor`: says what this machine lets the server do, and what would help.

use anyhow::Context;
use codex_exec_server::process::Groups;
use codex_exec_server::sandbox::PolicyBounds;

use crate::output;
use crate::sandbox::MechanismArgs;

/// The flags of `codex doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    mechanisms: MechanismArgs,
}

/// Prints one line for each thing looked at, and below what is refused what to paste. The exit code is 0 if all is well,
/// else 1.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let confiner = args.mechanisms.confiner(PolicyBounds::default());
    let mut code = 0;
    for finding in confiner.abilities().findings() {
        let mark = if finding.good { "ok     " } else { "LIMITED" };
        code |= u8::from(!finding.good);
        output::line(&format!("{mark} {}: {}", finding.what, finding.said))
            .context("can't print the findings")?;
        for command in &finding.commands {
            output::line(&format!("            {command}")).context("can't print the findings")?;
        }
    }
    // It is asked for by few, and refused up front without, so it is no fault either.
    let transparent = match confiner.network_devices() {
        Ok(()) => "programs that know of no proxy reach what they may".to_owned(),
        Err(why) => format!("refused where it is asked for, since there are no network devices: {why}"),
    };
    output::line(&format!("ok      transparent TCP: {transparent}")).context("can't print the findings")?;
    // Of this command's cgroup, since which server is meant can't be known. Resource limits do as well, so they are no fault.
    output::line(&format!("ok      limits: {}", Groups::describe())).context("can't print the findings")?;
    Ok(code)
}
