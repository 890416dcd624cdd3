//! `codex exec-server connect`: carries the protocol between stdin and stdout and any environment.

use codex_exec_server::client::CarryEnd;

use crate::output;
use crate::reach::ReachArgs;
use crate::setup::Setup;
use crate::target::tell;

/// Speaks the protocol of an environment over stdin and stdout, for programs that know nothing of registries and relays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex exec-server connect -E box --stdio    # for a client that speaks the protocol over the pipes of a program")]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Carry it over stdin and stdout, one message on each line.
    #[arg(long, required = true)]
    stdio: bool,
}

/// Carries until either side ends. The end of stdin ends the session and what runs in it, as with a server over stdio.
///
/// # Errors
/// None: what goes wrong is told on stderr, and by the exit code.
pub(crate) async fn connect(args: ConnectArgs, setup: Setup) -> anyhow::Result<u8> {
    debug_assert!(args.stdio, "the parser asks for it");
    let target = match args.reach.target.find(&setup) {
        Ok(target) => target,
        Err(error) => return Ok(tell(&error)),
    };
    match target.carry(tokio::io::stdin(), tokio::io::stdout()).await {
        Ok(CarryEnd::Here) => Ok(0),
        Ok(CarryEnd::There(why)) => {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            output::error(&format!("the exec-server has ended the connection{why}"));
            Ok(1)
        }
        Err(error) => Ok(tell(&error)),
    }
}
