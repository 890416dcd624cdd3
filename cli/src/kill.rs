//! `codex exec-server kill`: ends programs, or sends them a signal.

use std::time::{Duration, Instant};

use codex_exec_server::client::Client;
use codex_exec_server::protocol::process::{Signal, SignalName, SignalParams, Terminate, TerminateParams};

use crate::output;
use crate::programs::{self, Place, ProgramError};
use crate::setup::{ConfigArgs, Setup};
use crate::table;
use crate::target::TargetArgs;
use crate::wait::wait_for_one;

/// How long after its last deadline a program's end is waited for. Our own pace: nothing outside depends on it.
const REAPING_TIME: Duration = Duration::from_secs(5);

/// Ends programs with all that they have started: by SIGTERM, and by SIGKILL once the grace is over. Prints the id of each.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server kill nightly
  codex exec-server kill --grace 0 nightly
  codex exec-server kill -s HUP nightly")]
pub(crate) struct KillArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Send this signal and nothing else: HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, STOP or WINCH, with or without SIG,
    /// or its number.
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal, conflicts_with = "grace")]
    signal: Option<SignalName>,
    /// Seconds from SIGTERM to SIGKILL; 0 kills at once.
    #[arg(long, short = 't', alias = "time", value_name = "SECONDS", default_value_t = 10)]
    grace: u32,
    /// The programs, by their ids or by how those begin.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

fn signal(text: &str) -> Result<SignalName, String> {
    let upper = text.to_ascii_uppercase();
    Ok(match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "HUP" | "1" => SignalName::Hangup,
        "INT" | "2" => SignalName::Interrupt,
        "QUIT" | "3" => SignalName::Quit,
        "KILL" | "9" => SignalName::Kill,
        "USR1" | "10" => SignalName::User1,
        "USR2" | "12" => SignalName::User2,
        "TERM" | "15" => SignalName::Terminate,
        "CONT" | "18" => SignalName::Continue,
        "STOP" | "19" => SignalName::Stop,
        "WINCH" | "28" => SignalName::WindowChange,
        _ => return Err("expected HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, STOP or WINCH".into()),
    })
}

/// Ends them, or sends the signal.
///
/// # Errors
/// Never; what goes wrong is told, and gives an exit code.
pub(crate) async fn kill(args: KillArgs, setup: Setup) -> anyhow::Result<u8> {
    let client = match programs::reach(&args.target, &setup).await {
        Ok(client) => client,
        Err(error) => return Ok(crate::target::tell(&error)),
    };
    let mut code = 0;
    for id in &args.ids {
        match kill_one(&client, id, &args).await {
            Ok(()) => code = code.max(table::printed(output::line(id))),
            // The others have their turn all the same.
            Err(error) => code = code.max(error.tell()),
        }
    }
    client.close().await;
    Ok(code)
}

async fn kill_one(client: &Client, id: &str, args: &KillArgs) -> Result<(), ProgramError> {
    let (Place { session, process }, info) = programs::find(client, id).await?;
    if !programs::is_running(&info) {
        return Err(ProgramError::Unknown(format!("the program {process:?} has ended already")));
    }
    if let Some(signal) = args.signal {
        let params = SignalParams { process_id: process, session_id: Some(session), signal };
        client.call::<Signal>(&params).await?;
        return Ok(());
    }
    let grace = Duration::from_secs(args.grace.into());
    let params = TerminateParams {
        process_id: process.clone(),
        session_id: Some(session.clone()),
        grace_ms: (args.grace > 0).then_some(u64::from(args.grace) * 1000),
    };
    client.call::<Terminate>(&params).await?;
    let deadline = Instant::now() + grace + REAPING_TIME;
    match wait_for_one(client, &Place { session, process: process.clone() }, Some(deadline)).await? {
        Some(_) => Ok(()),
        None => Err(ProgramError::Unknown(format!(
            "the program {process:?} has not ended {} s after SIGKILL: it hangs in the kernel",
            REAPING_TIME.as_secs()
        ))),
    }
}
