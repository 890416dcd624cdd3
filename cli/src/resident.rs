//! `codex exec-server resident`: what the program does on a machine where it was brought to stay. It finds the server that stays
//! there, or starts one, and leads to it what comes over the connection.

mod place;
mod server;

use std::path::PathBuf;

use crate::output;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use place::Place;

/// Leads stdin and stdout to the server that stays on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct ResidentArgs {
    /// Where the programs that were brought lie, and the server's socket.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Only print a line of JSON about the server, and start none.
    #[arg(long)]
    look: bool,
    /// Print the same, and end the server unless programs run in it.
    #[arg(long, conflicts_with = "look")]
    stop: bool,
    /// End it even then.
    #[arg(long, requires = "stop")]
    force: bool,
}

/// Leads until either side ends. The end of stdin ends no session: whoever wants that has said so before.
///
/// # Errors
/// There is no server, and none can be started.
pub(crate) async fn resident(args: ResidentArgs) -> anyhow::Result<u8> {
    let place = Place::new(&args.directory)?;
    if args.look || args.stop {
        let found = match args.stop {
            true => server::stop(&place, args.force).await?,
            false => server::look(&place).await?,
        };
        output::line(&serde_json::to_string(&found)?)?;
        return Ok(0);
    }
    let stream = server::find_or_start(&place).await?;
    carry(stream).await;
    Ok(0)
}

async fn carry(stream: UnixStream) {
    let (mut from_server, mut to_server) = stream.into_split();
    let there = async {
        // Whatever ends it, it is over.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let here = async {
        let mut stdout = tokio::io::stdout();
        let _ = tokio::io::copy(&mut from_server, &mut stdout).await;
        let _ = stdout.flush().await;
    };
    // Without a client nobody waits for what the server still says.
    tokio::select! {
        () = there => {}
        () = here => {}
    }
}
