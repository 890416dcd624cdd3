//! `codex doctor`: says what this machine lets the server do, what stands on the way to an environment, and what would help.

mod machine;
mod report;
mod way;

use codex_exec_server::sandbox::PolicyBounds;

use crate::sandbox::MechanismArgs;
use crate::setup::{ConfigArgs, Setup};
use crate::target::TargetArgs;
pub(crate) use report::Report;

/// The flags of `codex doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex doctor                  # this machine: which sandboxes it can enforce, and what would help
  codex doctor -E box           # and every hop on the way to an environment
  codex doctor --json | jq '.checks[] | select(.status != \"ok\")'")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    mechanisms: MechanismArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Print one JSON object, in the shape of released programs.
    #[arg(long)]
    json: bool,
}

/// Looks at what sandboxes can do: before any thread or event loop, as a server would.
pub(crate) fn begin(args: &DoctorArgs) -> Report {
    let mut report = Report::default();
    machine::sandbox(&args.mechanisms.confiner(PolicyBounds::default()), &mut report);
    report
}

/// Looks at the rest, and prints one line for each thing looked at, and below what is not well what to paste. The exit code
/// is 0 if all is well, else 1.
///
/// # Errors
/// Nobody reads stdout any more, or it is full.
pub(crate) async fn run(args: DoctorArgs, mut report: Report, setup: Setup) -> anyhow::Result<u8> {
    // On a thread of its own, since a keyring is waited for by an event loop of its own.
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| machine::surroundings(&setup, &mut report));
        looking.join().map_err(|_| anyhow::anyhow!("this machine could not be looked at"))
    })?;
    if args.target.names_one() {
        way::walk(&args.target, &setup, &mut report).await;
    }
    report.print(args.json)?;
    Ok(u8::from(!report.is_well()))
}
