//! `codex exec-server attach`: takes up a running program again.

mod escape;
mod keys;
mod screen;
mod session;

pub(crate) use keys::Keys;
pub(crate) use session::{Ended, Session, Way, finish};

use crate::console::signals::Signals;
use crate::programs;
use crate::setup::{ConfigArgs, Setup};
use crate::target::TargetArgs;

/// Takes up a running program: shows its screen, or goes on with its output, and passes keys and input on. Whoever comes
/// last writes; who wrote before is told and watches from then on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server attach nightly
  codex exec-server attach --read-only 3f2a

On a terminal, Ctrl-\\ leaves the program running (twice: the program gets it), as does ~d at the start of a line; ~. ends the connection, and ~? lists these keys.")]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Only watch: keys and sizes stay here.
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    keys: Keys,
    /// The program, by its id or by how that begins.
    #[arg(value_name = "ID")]
    id: String,
}

/// Follows it; gives its exit code, 0 when it was left running, and 255 when it can't be reached any more.
///
/// # Errors
/// Only what keeps this side from working at all, such as a terminal that can't be set.
pub(crate) async fn attach(args: AttachArgs, setup: Setup) -> anyhow::Result<u8> {
    let way = Way::new(&args.target, &setup);
    let client = match way.connect(|_| {}).await {
        Ok(client) => client,
        Err(error) => {
            crate::target::tell(&error);
            return Ok(error.code_of_program());
        }
    };
    let (place, info) = match programs::find(&client, &args.id).await {
        Ok(found) => found,
        Err(error) => {
            client.close().await;
            return Ok(error.tell());
        }
    };
    let mut signals = Signals::new()?;
    let mut session = Session::new(way, client, place, info.tty, args.keys.character());
    session.joins(info.rows.zip(info.cols), args.read_only);
    let ended = session.run(&mut signals).await?;
    // Our own session holds nothing.
    session.into_client().close().await;
    Ok(finish("attach", &ended, &info.process_id))
}
