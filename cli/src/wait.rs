//! `codex exec-server wait`: until programs have ended.

use std::time::{Duration, Instant};

use codex_exec_server::client::Client;
use codex_exec_server::protocol::process::{Wait, WaitParams, WaitResult};

use crate::codes::TIMED_OUT;
use crate::output;
use crate::programs::{self, Place, ProgramError};
use crate::setup::{ConfigArgs, Setup};
use crate::table;
use crate::target::TargetArgs;

/// How long one request waits; then another is sent. Our own pace: nothing outside depends on it.
const TURN_TIME: Duration = Duration::from_secs(600);

/// Waits until programs have ended, and prints the exit code of each on a line of its own, in the order of the ids.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server wait nightly
  codex exec-server wait --timeout 60 nightly && echo over")]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Give up after this many seconds, and exit with 124; fractions are allowed.
    #[arg(long, value_name = "SECONDS", value_parser = crate::values::seconds_or_0, allow_negative_numbers = true)]
    timeout: Option<Duration>,
    /// The programs, by their ids or by how those begin.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Waits for them.
///
/// # Errors
/// Never; what goes wrong is told, and gives an exit code.
pub(crate) async fn wait(args: WaitArgs, setup: Setup) -> anyhow::Result<u8> {
    let client = match programs::reach(&args.target, &setup).await {
        Ok(client) => client,
        Err(error) => return Ok(crate::target::tell(&error)),
    };
    let code = match wait_for(&client, &args).await {
        Ok(code) => code,
        Err(error) => error.tell(),
    };
    client.close().await;
    Ok(code)
}

async fn wait_for(client: &Client, args: &WaitArgs) -> Result<u8, ProgramError> {
    let deadline = args.timeout.map(|time| Instant::now() + time);
    let mut places = Vec::new();
    // All are looked for first: a slip in the last id is told at once.
    for id in &args.ids {
        places.push(programs::find(client, id).await?.0);
    }
    for place in places {
        let Some(ended) = wait_for_one(client, &place, deadline).await? else { return Ok(TIMED_OUT) };
        let code = table::printed(output::line(&code_of(&ended).to_string()));
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// How a program ended; none if the time was up first.
pub(crate) async fn wait_for_one(
    client: &Client,
    place: &Place,
    deadline: Option<Instant>,
) -> Result<Option<WaitResult>, ProgramError> {
    loop {
        let left =
            deadline.map_or(TURN_TIME, |end| end.saturating_duration_since(Instant::now()).min(TURN_TIME));
        let params = WaitParams {
            process_id: place.process.clone(),
            session_id: Some(place.session.clone()),
            timeout_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        };
        let result = client.call::<Wait>(&params).await?;
        if result.exited {
            return Ok(Some(result));
        }
        if deadline.is_some_and(|end| Instant::now() >= end) {
            return Ok(None);
        }
    }
}

/// As a shell has it: 128 and the number for a signal.
fn code_of(ended: &WaitResult) -> i32 {
    let signal = ended.exit.as_ref().and_then(|exit| exit.signal);
    signal.map_or_else(|| ended.exit_code.unwrap_or(-1), |signal| 128 + signal)
}
