//! `env status`: connects, and says what is there.

mod all;

use std::time::Instant;

use codex_exec_server::client::Client;
use codex_exec_server::protocol::WirePath;
use codex_exec_server::protocol::encode::NoParams;
use codex_exec_server::protocol::environment::{EnvironmentInfo, Info};
use serde_json::json;

use crate::output;
use crate::setup::{ConfigArgs, Setup};
use crate::table::printed;
use crate::target::{self, TargetArgs, TargetError};

/// Says what an environment is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server env status box
  codex exec-server env status --all")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The environment's name; without it, and without an address, that of the one in use.
    #[arg(value_name = "NAME", conflicts_with_all = ["environment", "url", "registry"])]
    name: Option<String>,
    /// Connect to all that are written down, at once, and say how each stands; the exit code is 0 if each is ready or paused.
    #[arg(long, conflicts_with_all = ["name", "environment", "url", "registry", "request_id"])]
    all: bool,
    /// Print a JSON object; with --all an array of them.
    #[arg(long)]
    json: bool,
}

/// Connects, and says what is there.
pub(super) async fn status(args: &StatusArgs, setup: Setup) -> anyhow::Result<u8> {
    if args.all {
        return all::all(args.json, setup).await;
    }
    let asked = match &args.name {
        Some(name) => TargetArgs::named(name),
        None => args.target.clone(),
    };
    let began = Instant::now();
    let reached = async {
        let target = asked.find(&setup)?;
        let name = target.name().map(str::to_owned);
        let client = target.connect().await?;
        Ok::<_, TargetError>((name, client))
    };
    let (name, client) = match reached.await {
        Ok(reached) => reached,
        Err(error) if args.json => {
            let paused = matches!(error, TargetError::Paused(_));
            let told = json!({"state": "disconnected", "paused": paused, "reason": error.to_string()});
            return Ok(printed(output::line(&told.to_string())).max(error.code()));
        }
        Err(error) => return Ok(target::tell(&error)),
    };
    let took = began.elapsed();
    let info = info(&client).await;
    client.close().await;
    let path = |path: &Option<WirePath>| match path {
        Some(WirePath::Local(path)) => Some(path.display().to_string()),
        Some(other) => serde_json::to_value(other).ok()?.as_str().map(str::to_owned),
        None => None,
    };
    let facts = [
        ("name", name),
        ("state", Some("ready".to_owned())),
        ("version", info.as_ref().and_then(|info| info.executor_version.clone())),
        ("os", info.as_ref().and_then(|info| info.platform_os.clone())),
        ("shell", info.as_ref().map(|info| info.shell.path.clone())),
        ("cwd", info.as_ref().and_then(|info| path(&info.cwd))),
        ("home", info.as_ref().and_then(|info| path(&info.user_home_dir))),
    ];
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if args.json {
        let mut told = json!({"connectedInMs": milliseconds});
        for (key, value) in facts {
            told[key] = json!(value);
        }
        return Ok(printed(output::line(&told.to_string())));
    }
    let lines = facts.into_iter().filter_map(|(key, value)| Some(format!("{key:<9}{}\n", value?)));
    let text: String = lines.chain([format!("{:<9}in {milliseconds} ms\n", "connected")]).collect();
    Ok(printed(output::bytes(text.as_bytes())))
}

/// What the machine is; servers before 0.169 tell it only when asked.
async fn info(client: &Client) -> Option<EnvironmentInfo> {
    match client.environment_info() {
        Some(info) => Some(info),
        None => client.call::<Info>(&NoParams).await.ok(),
    }
}
