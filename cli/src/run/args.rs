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
    /// Treat every problem of the configuration, unknown keys included, as an error.
    #[arg(long)]
    pub(crate) strict_config: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The directory to run in [default: the current one, and in an environment elsewhere the server's].
    #[arg(short = 'w', long, alias = "workdir", value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// A variable to add to those of the server for this program. May be given several times.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// A file with variables to add, NAME=VALUE on each line. May be given several times; --env beats it.
    #[arg(long, value_name = "PATH")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Run the program on a terminal of its own, as large as this one.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Pass standard input on, as is always done; taken for the habit's sake.
    #[arg(short, long, hide = true)]
    pub(crate) interactive: bool,
    /// Leave the program running and print its id alone, by which `ps`, `logs`, `attach`, `wait` and `kill` find it.
    #[arg(short, long, conflicts_with_all = ["timeout", "interactive"])]
    pub(crate) detach: bool,
    /// The id of the program, at most 64 letters, digits, `-`, `_` and `.` [default: with --detach one that is made up].
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<String>,
    /// With --detach: where the server keeps the output. On `disk`, `logs` finds it even when the program, its session or the
    /// server has ended; in `memory`, only until then [default: disk, where the server has a place for it].
    #[arg(long, value_name = "PLACE", value_parser = log_place, requires = "detach")]
    pub(crate) log: Option<LogPlace>,
    /// With --detach: how long the program may run, and its output is kept, while nobody comes back to it: a number of seconds,
    /// or with s, m, h or d behind it. The server may allow less [default: 7d].
    #[arg(long, value_name = "TIME", value_parser = span, requires = "detach")]
    pub(crate) keep: Option<Duration>,
    /// End the program after this many seconds and exit with 124; fractions are allowed. A program that has ended by then
    /// gives its own exit code; background processes that still hold its output are left running and waited for no longer.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    /// For `bash -lc COMMAND` and `zsh -lc COMMAND`: skip the login shell's start-up files where the server remembers what they
    /// made, and nothing that they depend on has changed since.
    #[arg(long)]
    pub(crate) remembered_login: bool,
    /// While the program runs, make ports of its machine reachable here: those that it listens on, with `auto`, or others, as
    /// `port-forward` takes them. May be given several times.
    #[arg(long, value_name = "auto|PORTS", value_parser = forward, conflicts_with = "detach")]
    pub(crate) forward: Vec<Forward>,
    /// The program and its arguments, after two hyphens.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
}

fn log_place(text: &str) -> Result<LogPlace, String> {
    match text {
        "disk" => Ok(LogPlace::Disk),
        "memory" => Ok(LogPlace::Memory),
        _ => Err("expected disk or memory".into()),
    }
}
