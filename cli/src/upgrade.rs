//! `codex exec-server upgrade`: has a running server give way to another binary, with all that runs below it.
//!
//! The request is a directory in the server's state directory, where nobody but its user may write, and sandboxed programs may not
//! either: the binary's path, and a pipe for the answer. A signal has the keeper look there.

mod keepers;
mod request;

use std::path::PathBuf;

use anyhow::Context as _;
use codex_children::keeper::upgrade_signal;
use rustix::process::{Pid, kill_process};

use crate::codes::FAILURE;
use crate::output;
use crate::setup::{ConfigArgs, Setup, state_directory};
use request::Request;
pub(crate) use request::take;

/// Flags of `codex exec-server upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server upgrade
  codex exec-server upgrade --pid 4711 --binary ./codex")]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The server, by the number of its process; needed where several run.
    #[arg(long, value_name = "PID")]
    pid: Option<i32>,
    /// The binary that takes over. Without it, the one that is now where the server's own was.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Asks for it, and waits for the answer.
///
/// # Errors
/// There is no such server, its state directory can't be written, or it does not answer.
pub(crate) fn upgrade(args: &UpgradeArgs, setup: &Setup) -> anyhow::Result<u8> {
    let keeper = keepers::find(args.pid)?;
    let binary = match &args.binary {
        Some(binary) => {
            Some(binary.canonicalize().with_context(|| format!("can't find {}", binary.display()))?)
        }
        None => None,
    };
    let settings = setup.exec_server(true)?;
    let state = state_directory(settings.state_dir.as_deref())
        .context("there is no state directory: neither a home directory nor exec_server.state_dir")?;
    let request = Request::write(&state, keeper, binary.as_deref())?;
    kill_process(keeper, upgrade_signal())
        .with_context(|| format!("can't signal process {}", number(keeper)))?;
    match request.answer()? {
        Ok(()) => {
            output::line(&format!("the server below process {} is the new one now", number(keeper)))?;
            Ok(0)
        }
        Err(reason) => {
            output::error(&format!("{reason}. The server goes on as it was"));
            Ok(FAILURE)
        }
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_pid()
}
