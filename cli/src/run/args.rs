//! The flags of `codex exec-server run`.

use std::path::PathBuf;
use std::time::Duration;

use crate::setup::ConfigArgs;
use crate::target::TargetArgs;

/// About 31 years: what is beyond is a slip. A safeguard, far from any real use.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1_000_000_000);

/// Runs a program through an exec-server and gives back its output and its exit code.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Treat every problem of the configuration, keys that nobody knows included, as an error.
    #[arg(long)]
    pub(crate) strict_config: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The directory to run in; it defaults to the current one, and in an environment elsewhere to the server's own.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// A variable to add to the server's environment for this program; may be given several times.
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Run the program on a terminal of its own, as large as this one.
    #[arg(long)]
    pub(crate) tty: bool,
    /// End the program after this many seconds and exit with 124; fractions are allowed. A program that has ended by then
    /// gives its own exit code; background processes that still hold its output are left running and waited for no longer.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    /// For `bash -lc COMMAND`: take what the login shell's start-up files make from the server's memory, and log in only
    /// when that is not there or no longer holds.
    #[arg(long)]
    pub(crate) remembered_login: bool,
    /// The program and its arguments, after two hyphens.
    #[arg(last = true, required = true, value_name = "PROGRAM ARG")]
    pub(crate) command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero() && *time <= LONGEST_TIMEOUT).ok_or_else(|| {
        format!("expected a number of seconds above 0 and up to {}", LONGEST_TIMEOUT.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_written_or_refused_with_what_is_right() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("=x").is_err() && variable("A").is_err());
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["0", "-1", "NaN", "inf", "1e300", "1000000001", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
