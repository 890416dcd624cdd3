//! The flags of `codex exec-server run`.

use std::path::PathBuf;
use std::time::Duration;

use crate::setup::ConfigArgs;
use crate::target::TargetArgs;

/// About 31 years: what is beyond is a slip. A safeguard, far from any real use.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1_000_000_000);

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
    /// With --detach: how long nobody has to come back for the program and its output, in seconds or with s, m, h or d
    /// behind the number; then it is ended. 7 days if not given, and never more than the server allows.
    #[arg(long, value_name = "TIME", value_parser = span, requires = "detach")]
    pub(crate) keep: Option<Duration>,
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

pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 letters, digits, `-`, `_` and `.`".into()),
    }
}

/// A time as `90`, `90s`, `15m`, `8h` or `2d`.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let time =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).map(Duration::from_secs);
    time.filter(|time| !time.is_zero() && *time <= LONGEST_TIMEOUT)
        .ok_or_else(|| "expected a time as 90, 90s, 15m, 8h or 2d".into())
}

/// A variable as a flag gives it.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
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
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("8h", 28_800), ("2d", 172_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "0", "d", "-1", "1w", "1.5h", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(name("a.b-c_1").is_ok() && name("a b").is_err() && name("").is_err());
        for wrong in ["0", "-1", "NaN", "inf", "1e300", "1000000001", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
