//! `env stop`: ends the server that stays on a machine where it was brought.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use codex_bring::Served;

use crate::codes::FAILURE;
use crate::output;
use crate::setup::{ConfigArgs, Setup};
use crate::table::printed;
use crate::target::{self, Far, Staying, TargetArgs};

/// Ends the server that stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server env stop box
  codex exec-server env stop --force box        # with the programs that run there
  codex exec-server env stop --url ssh://me@box.example")]
pub(super) struct StopArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The environment's name; without it, and without an address, that of the one in use.
    #[arg(value_name = "NAME", conflicts_with_all = ["environment", "url", "registry"])]
    name: Option<String>,
    /// End it even where programs run in it, which end with it.
    #[arg(short, long)]
    force: bool,
}

/// Ends it, and prints where it was.
pub(super) async fn stop(args: &StopArgs, setup: &Setup) -> anyhow::Result<u8> {
    let asked = args.name.as_deref().map_or_else(|| args.target.clone(), TargetArgs::named);
    let found = match asked.find(setup) {
        Ok(found) => found,
        Err(error) => return Ok(target::tell(&error)),
    };
    let Some(far) = found.way() else {
        anyhow::bail!(
            "only a server that was brought to an ssh://, docker:// or kubectl:// address is ended so; end another where it was \
             started"
        );
    };
    let place = far.target.to_string();
    let asks = std::io::stdin().is_terminal();
    match far.staying(Served::Stop { force: args.force }, asks).await? {
        None => {
            output::note(&format!("no server stays on {place}"));
            Ok(0)
        }
        Some(found) if found.is_stopped => Ok(printed(output::line(&place))),
        Some(found) => {
            let list = found_name(args, &place);
            output::error(&format!(
                "{} in the server on {place}: `codex exec-server ps{list}` lists what runs; with --force it ends too",
                found.running()
            ));
            Ok(FAILURE)
        }
    }
}

/// How `ps` is told of the same environment.
fn found_name(args: &StopArgs, place: &str) -> String {
    match args.name.as_deref().or_else(|| args.target.name()) {
        Some(name) => format!(" -E {name}"),
        None if args.target.names_one() => format!(" --resident --url '{place}'"),
        None => String::new(),
    }
}

/// What is said of the server that stays, if one does, within a time in which nobody is kept waiting; nobody is asked for a password.
pub(super) async fn look(far: &Far) -> anyhow::Result<Option<Staying>> {
    /// Longer than a machine takes that is there; the command goes on without an answer.
    const TIME: std::time::Duration = std::time::Duration::from_secs(20);
    let answer = tokio::time::timeout(TIME, far.staying(Served::Look, false)).await;
    answer.with_context(|| format!("{} says nothing", far.target))?
}
