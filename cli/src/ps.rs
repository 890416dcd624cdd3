//! `codex exec-server ps`: the programs of an environment.

use std::time::Duration;

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::SessionId;
use codex_exec_server::protocol::process::{ProcessInfo, ProcessState};
use rustix::stdio::stdout;
use rustix::termios::isatty;

use crate::output;
use crate::programs::{self, is_running};
use crate::setup::{ConfigArgs, Setup};
use crate::table::{self, Table, plain};
use crate::target::TargetArgs;

/// Between two looks with --watch. Our own pace: nothing outside depends on it.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// Brings a terminal's cursor to the top, and clears all below.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Lists the programs of an environment: those left there, and those of whoever else uses it with the same token.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server ps -E box
  codex exec-server ps --watch
  codex exec-server ps -a --format '{{.ID}}\\t{{.State}}'
  codex exec-server kill $(codex exec-server ps -q -f command=make)")]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Also list programs that have ended and are not forgotten yet.
    #[arg(short, long)]
    all: bool,
    /// Print the ids alone.
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    quiet: bool,
    /// Only those for which KEY is VALUE: id, state (starting, running, exited, closed), session; or whose command holds it:
    /// command. May be given several times; all have to hold.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<Filter>,
    /// Print this for each: text with {{.ID}}, {{.Command}}, {{.State}}, {{.Status}}, {{.Pid}}, {{.Tty}}, {{.ExitCode}} and
    /// {{.Session}}; \t is a tab.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json", value_parser = template)]
    format: Option<Template>,
    /// List them again whenever something has changed, until interrupted: on a terminal in place of the last list, else behind
    /// an empty line, or with --json as another array.
    #[arg(short, long)]
    watch: bool,
    /// Print a JSON array, with everything that is known.
    #[arg(long)]
    json: bool,
}

/// One `-f`.
#[derive(Debug, Clone)]
enum Filter {
    Id(String),
    State(ProcessState),
    Session(String),
    Command(String),
}

fn filter(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let value = value.to_owned();
    match key {
        "id" | "name" => Ok(Filter::Id(value)),
        "session" => Ok(Filter::Session(value)),
        "command" => Ok(Filter::Command(value)),
        "state" | "status" => serde_json::from_value(value.into())
            .map(Filter::State)
            .map_err(|_| "expected state=starting, running, exited or closed".into()),
        _ => Err("expected id=, state=, session= or command=".into()),
    }
}

impl Filter {
    fn holds(&self, info: &ProcessInfo) -> bool {
        match self {
            Self::Id(id) => info.process_id == **id,
            Self::State(state) => info.state == *state,
            Self::Session(session) => info.session_id.as_ref().is_some_and(|id| *id == **session),
            Self::Command(text) => command(info).contains(text.as_str()),
        }
    }
}

/// What `--format` prints: pieces of text and of what is known.
#[derive(Debug, Clone)]
struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Field(fn(&ProcessInfo) -> String),
}

fn template(text: &str) -> Result<Template, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}").ok_or("a {{ has no }}")?;
        parts.push(Part::Text(before.replace("\\t", "\t")));
        parts.push(Part::Field(field(name.trim())?));
        rest = after;
    }
    parts.push(Part::Text(rest.replace("\\t", "\t")));
    Ok(Template(parts))
}

fn field(name: &str) -> Result<fn(&ProcessInfo) -> String, String> {
    let name = name.strip_prefix('.').unwrap_or(name);
    Ok(match name.to_ascii_lowercase().as_str() {
        "id" | "names" => |info| plain(&info.process_id),
        "command" => |info| plain(&command(info)),
        "state" => |info| state(info).to_owned(),
        "status" => status,
        "pid" => |info| info.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        "tty" => |info| info.tty.to_string(),
        "exitcode" => |info| info.exit_code.map(|code| code.to_string()).unwrap_or_default(),
        "session" => |info| info.session_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        _ => {
            return Err(format!(
                "there is no {{{{.{name}}}}}; there are ID, Command, State, Status, Pid, Tty, ExitCode and Session"
            ));
        }
    })
}

/// Lists them.
///
/// # Errors
/// Never; what goes wrong is told, and gives an exit code.
pub(crate) async fn ps(args: PsArgs, setup: Setup) -> anyhow::Result<u8> {
    let client = match programs::reach(&args.target, &setup).await {
        Ok(client) => client,
        Err(error) => return Ok(crate::target::tell(&error)),
    };
    let code = match args.watch {
        true => watch(&client, &args).await,
        false => listed(&client, &args).await.map(|all| table::printed(print(&args, &all))),
    };
    client.close().await;
    Ok(code.unwrap_or_else(|error| programs::ProgramError::Client(error).tell()))
}

/// The programs that are asked for.
async fn listed(client: &Client, args: &PsArgs) -> Result<Vec<ProcessInfo>, ClientError> {
    let mut all = programs::list(client).await?;
    let names_state = args.filter.iter().any(|filter| matches!(filter, Filter::State(_)));
    all.retain(|info| {
        (args.all || names_state || is_running(info)) && args.filter.iter().all(|filter| filter.holds(info))
    });
    Ok(all)
}

/// Lists them again and again; ends only when output can't be written.
async fn watch(client: &Client, args: &PsArgs) -> Result<u8, ClientError> {
    let in_place = isatty(stdout()) && !args.json;
    let mut last = None;
    loop {
        let all = listed(client, args).await?;
        let now: Vec<_> = all.iter().map(identity).collect();
        // On a terminal times go on also while nothing happens.
        if in_place || last.as_ref() != Some(&now) {
            let between: &[u8] = match (in_place, args.json || last.is_none()) {
                (true, _) => CLEAR,
                (false, true) => b"",
                (false, false) => b"\n",
            };
            let code = table::printed(output::bytes(between).and_then(|()| print(args, &all)));
            if code != 0 {
                return Ok(code);
            }
            last = Some(now);
        }
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

/// What makes a program's line another one, but for the time that passes.
fn identity(info: &ProcessInfo) -> (String, Option<SessionId>, &'static str) {
    (info.process_id.to_string(), info.session_id.clone(), state(info))
}

fn print(args: &PsArgs, all: &[ProcessInfo]) -> std::io::Result<()> {
    let lines = |line: &dyn Fn(&ProcessInfo) -> String| -> String {
        all.iter().map(|info| format!("{}\n", line(info))).collect()
    };
    if args.json {
        return output::line(&serde_json::to_string(all)?);
    }
    if args.quiet {
        return output::bytes(lines(&|info| plain(&info.process_id)).as_bytes());
    }
    if let Some(Template(parts)) = &args.format {
        let fill = |info: &ProcessInfo| {
            let parts = parts.iter().map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Field(field) => field(info),
            });
            parts.collect::<String>()
        };
        return output::bytes(lines(&fill).as_bytes());
    }
    let mut table = Table::new(["ID", "STATUS", "PID", "TTY", "COMMAND"]);
    for info in all {
        let pid = info.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let tty = if info.tty { "yes" } else { "no" };
        table.row([&info.process_id, &status(info), &pid, tty, &command(info)]);
    }
    table.print()
}

fn command(info: &ProcessInfo) -> String {
    info.argv.join(" ")
}

const fn state(info: &ProcessInfo) -> &'static str {
    match info.state {
        ProcessState::Starting => "starting",
        ProcessState::Running => "running",
        ProcessState::Exited => "exited",
        ProcessState::Closed => "closed",
    }
}

/// As people say it: `running 3 min`, `exited 1 after 2 s`, `killed by signal 9 after 5 h`.
fn status(info: &ProcessInfo) -> String {
    let time = |ms: u64| span(Duration::from_millis(ms));
    match (&info.exit, info.exit_code) {
        (Some(exit), _) if exit.timed_out => format!("timed out after {}", time(exit.duration_ms)),
        (Some(exit), _) if exit.signal.is_some() => {
            format!("killed by signal {} after {}", exit.signal.unwrap_or_default(), time(exit.duration_ms))
        }
        (Some(exit), Some(code)) => format!("exited {code} after {}", time(exit.duration_ms)),
        _ => match info.running_ms {
            Some(ms) => format!("{} {}", state(info), time(ms)),
            None => state(info).to_owned(),
        },
    }
}

/// A time in its largest fitting unit.
fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_fitting_unit() {
        for (seconds, told) in [
            (0.25, "250 ms"),
            (1.0, "1 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (7_200.0, "2 h"),
            (1e6, "11 days"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), told);
        }
    }

    #[test]
    fn a_template_names_what_there_is() {
        assert!(template("{{.ID}}\\t{{.State}}").is_ok() && template("plain").is_ok());
        assert!(template("{{.Image}}").unwrap_err().contains("there are ID"));
        assert!(template("{{.ID").is_err());
        assert!(filter("state=running").is_ok() && filter("state=up").is_err() && filter("x").is_err());
    }
}
