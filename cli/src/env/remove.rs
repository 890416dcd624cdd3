//! `env rm`: forgets an environment, but not a server that would be left running there.

use super::stop::look;
use super::write::change;
use crate::codes::FAILURE;
use crate::output;
use crate::setup::Setup;
use crate::target::TargetArgs;

/// Forgets an environment.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server env rm box
  codex exec-server env stop box && codex exec-server env rm box")]
pub(super) struct RemoveArgs {
    /// The environment's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Forget it without a look at what runs there, and leave that alone.
    #[arg(short, long)]
    force: bool,
}

/// Forgets it. Only of an environment with a server that stays is the machine asked.
pub(super) async fn remove(args: RemoveArgs, setup: &Setup) -> anyhow::Result<u8> {
    let RemoveArgs { name, force } = args;
    if !force && still_serves(&name, setup).await {
        return Ok(FAILURE);
    }
    change(setup, |edited| edited.remove(&name))
}

/// Whether a server stays there, which is told. What can't be found out keeps nobody from forgetting.
async fn still_serves(name: &str, setup: &Setup) -> bool {
    // One that is not known, or rests, or is damaged, is left to who removes it.
    let Ok(found) = TargetArgs::named(name).find(setup) else { return false };
    let Some(far) = found.way().filter(|far| far.outlives_connection()) else { return false };
    match look(far).await {
        Ok(None) => false,
        Ok(Some(server)) => {
            output::error(&format!(
                "a server still stays on {}, and {} in it; end it with `codex exec-server env stop {name}`, or leave it there with --force",
                far.target,
                server.running()
            ));
            true
        }
        Err(error) => {
            output::note(&format!(
                "can't tell whether a server still stays there: {}",
                output::sentence(&error)
            ));
            false
        }
    }
}
