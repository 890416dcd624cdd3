//! The flags of `codex exec-server run`.

use std::path::PathBuf;
use std::time::Duration;

use codex_exec_server::protocol::process::LogPlace;

use super::forwards::{Forward, forward};
use crate::setup::ConfigArgs;
use crate::target::TargetArgs;
use crate::values::{name, seconds, span, variable};

/// Runs a program through an exec-server and gives back its output and its exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server run -- make test
  codex exec-server run -E box -it -- vim notes.txt
  codex exec-server run -E box -d --name nightly -e LEVEL=2 -- ./nightly.sh")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Treat every problem of the configuration, keys that nobody knows included, as an error.
    #[arg(long)]
    pub(crate) strict_config: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The directory to run in; it defaults to the current one, and in an environment elsewhere to the server's own.
    #[arg(short = 'w', long, alias = "workdir", value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// A variable to add to the server's environment for this program; may be given several times.
    #[arg(short, long, value_name = "K=V", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// A file with variables to add, NAME=VALUE on each line; may be given several times. --env goes before it.
    #[arg(long, value_name = "PATH")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Run the program on a terminal of its own, as large as this one.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Pass standard input on, as is always done; taken for the habit's sake.
    #[arg(short, long, hide = true)]
    pub(crate) interactive: bool,
    /// Leave the program running in its environment and print its id alone; `ps`, `logs`, `attach`, `wait` and `kill` find it.
    #[arg(short, long, conflicts_with_all = ["timeout", "interactive"])]
    pub(crate) detach: bool,
    /// The id of the program, instead of one that is made up with --detach: letters, digits, `-`, `_` and `.`.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<String>,
    /// With --detach: where the server keeps the output: on `disk`, where `logs` finds it also when the program, its session or
    /// the server has ended, or in `memory` alone. On disk if not given, where the server has a place for it.
    #[arg(long, value_name = "PLACE", value_parser = log_place, requires = "detach")]
    pub(crate) log: Option<LogPlace>,
    /// With --detach: how long nobody has to come back for the program and its output, in seconds or with s, m, h or d
    /// behind the number; then it is ended. 7 days if not given, and never more than the server allows.
    #[arg(long, value_name = "TIME", value_parser = span, requires = "detach")]
    pub(crate) keep: Option<Duration>,
    /// End the program after this many seconds and exit with 124; fractions are allowed. A program that has ended by then
    /// gives its own exit code; background processes that still hold its output are left running and waited for no longer.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    /// For `bash -lc COMMAND` and `zsh -lc COMMAND`: take what the login shell's start-up files make from the server's memory, and log in only
    /// when that is not there or no longer holds.
    #[arg(long)]
    pub(crate) remembered_login: bool,
    /// While the program runs, make ports of its machine reachable here: those that it listens on, with `auto`, or others, as
    /// `port-forward` takes them. May be given several times.
    #[arg(long, value_name = "auto|PORTS", value_parser = forward, conflicts_with = "detach")]
    pub(crate) forward: Vec<Forward>,
    /// The program and its arguments, after two hyphens.
    #[arg(last = true, required = true, value_name = "PROGRAM ARG")]
    pub(crate) command: Vec<String>,
}

fn log_place(text: &str) -> Result<LogPlace, String> {
    match text {
        "disk" => Ok(LogPlace::Disk),
        "memory" => Ok(LogPlace::Memory),
        _ => Err("expected disk or memory".into()),
    }
}
