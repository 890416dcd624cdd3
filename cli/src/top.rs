//! `codex exec-server top`: what programs use.

use std::collections::BTreeMap;
use std::time::Duration;

use codex_exec_server::client::Client;
use rustix::stdio::stdout;
use rustix::termios::isatty;
use serde_json::{Value, json};

use crate::output;
use crate::probe::{OneProcess, Snapshot};
use crate::programs::{self, ProgramError, is_running};
use crate::setup::{ConfigArgs, Setup};
use crate::table::{self, Table};
use crate::target::TargetArgs;

/// Between two looks: what was on a CPU meanwhile is what is shown. Our own pace: nothing outside depends on it.
const PAUSE: Duration = Duration::from_secs(1);
/// Brings a terminal's cursor to the top, and clears all below.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Shows the processes of programs that run, with those that they have left behind them, and what each uses. On a terminal it
/// goes on until it is interrupted. It asks a shell of the environment's machine, which has to be Linux.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server top
  codex exec-server top -1 nightly
  codex exec-server top --json | jq 'map(.residentBytes) | add'")]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Show it once, as is always done in a pipe.
    #[arg(short = '1', long)]
    once: bool,
    /// Print a JSON array, once.
    #[arg(long)]
    json: bool,
    /// Programs, by their ids or by how those begin; all that run if none is given.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Shows it.
///
/// # Errors
/// Never; what goes wrong is told, and gives an exit code.
pub(crate) async fn top(args: TopArgs, setup: Setup) -> anyhow::Result<u8> {
    let client = match programs::reach(&args.target, &setup).await {
        Ok(client) => client,
        Err(error) => return Ok(crate::target::tell(&error)),
    };
    let code = match show(&client, &args).await {
        Ok(code) => code,
        Err(error) => error.tell(),
    };
    client.close().await;
    Ok(code)
}

async fn show(client: &Client, args: &TopArgs) -> Result<u8, ProgramError> {
    let goes_on = !args.once && !args.json && isatty(stdout());
    let mut before = Snapshot::take(client).await?;
    loop {
        tokio::time::sleep(PAUSE).await;
        let roots = roots(client, &args.ids).await?;
        let now = Snapshot::take(client).await?;
        let rows: Vec<_> = roots
            .iter()
            .flat_map(|(id, root)| now.of_program(*root).into_iter().map(move |process| (id, process)))
            .map(|(id, process)| Row { program: id, process, percent: percent(&before, &now, process) })
            .collect();
        let printed = match args.json {
            true => output::line(&Value::from_iter(rows.iter().map(Row::json)).to_string()),
            false => print(&rows, goes_on),
        };
        let code = table::printed(printed);
        if code != 0 || !goes_on {
            return Ok(code);
        }
        before = now;
    }
}

/// The programs that are looked at, with the first process of each.
async fn roots(client: &Client, ids: &[String]) -> Result<BTreeMap<String, u32>, ProgramError> {
    let mut infos = Vec::new();
    for id in ids {
        infos.push(programs::find(client, id).await?.1);
    }
    if ids.is_empty() {
        infos = programs::list(client).await?;
    }
    let running = infos.into_iter().filter(is_running);
    Ok(running.filter_map(|info| Some((info.process_id.to_string(), info.pid?))).collect())
}

/// Of one CPU, since the last look.
fn percent(before: &Snapshot, now: &Snapshot, process: &OneProcess) -> f64 {
    let used = before.get(process.pid).map_or(0.0, |before| before.cpu_seconds);
    let time = (now.uptime - before.uptime).max(0.01);
    ((process.cpu_seconds - used) / time * 100.0).max(0.0)
}

struct Row<'a> {
    program: &'a str,
    process: &'a OneProcess,
    percent: f64,
}

impl Row<'_> {
    fn json(&self) -> Value {
        let OneProcess { pid, state, name, threads, cpu_seconds, resident_bytes, .. } = self.process;
        json!({
            "program": self.program, "pid": pid, "name": name, "state": state.to_string(), "threads": threads,
            "cpuPercent": (self.percent * 10.0).round() / 10.0, "cpuSeconds": cpu_seconds,
            "residentBytes": resident_bytes,
        })
    }
}

fn print(rows: &[Row<'_>], in_place: bool) -> std::io::Result<()> {
    let mut table = Table::new(["PROGRAM", "PID", "STATE", "THREADS", "%CPU", "MEMORY", "TIME", "NAME"]);
    for Row { program, process, percent } in rows {
        table.row([
            program,
            &process.pid.to_string(),
            &process.state.to_string(),
            &process.threads.to_string(),
            &format!("{percent:.1}"),
            &size(process.resident_bytes),
            &time(process.cpu_seconds),
            &process.name,
        ]);
    }
    if in_place {
        output::bytes(CLEAR)?;
    }
    table.print()
}

/// Bytes in their largest fitting unit.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// As `top` has it: minutes, seconds and hundredths.
fn time(seconds: f64) -> String {
    format!("{}:{:05.2}", (seconds / 60.0).floor(), seconds % 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_as_people_read_them() {
        for (bytes, told) in [(0, "0 KiB"), (3 << 20, "3 MiB"), (3 << 29, "1.5 GiB")] {
            assert_eq!(size(bytes), told);
        }
        assert_eq!(
            (time(0.5), time(61.25), time(3600.0)),
            ("0:00.50".into(), "1:01.25".into(), "60:00.00".into())
        );
    }
}
