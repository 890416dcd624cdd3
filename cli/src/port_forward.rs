//! `codex exec-server port-forward`: makes ports of the server's machine reachable here, or ports of this machine there.

mod ends;
mod forward;
mod hub;
mod socks;
mod words;

pub(crate) use hub::Hub;
pub(crate) use words::Words;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::codes::{FAILURE, WRONG_USAGE};
use crate::output;
use crate::reach::{ReachArgs, Unreached};
use crate::setup::Setup;
use ends::Way;
use hub::{VERB, say};
use words::listen_only;

/// Forwards connections until it is interrupted.
///
/// A port is open only while its target is there: until then, and again when the target goes, whoever connects is refused.
/// To know, the target is connected to; that connection is used for the first one that comes within 5 s.
/// When the connection to the exec-server is lost, the forwards come back by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server port-forward -E box 8080            # port 8080 there is port 8080 here
  codex exec-server port-forward -E box 5433:db:5432    # a host that the machine there can reach
  codex exec-server port-forward -E box --reverse 3000  # port 3000 here is port 3000 there
  codex exec-server port-forward -E box --socks 1080    # a SOCKS5 proxy into the network there")]
pub(crate) struct PortForwardArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// The ports, as [LOCAL:]REMOTE: PORT, LOCAL:PORT, HOST:PORT, LOCAL:HOST:PORT or ADDRESS:LOCAL:HOST:PORT; LOCAL 0, or
    /// none before the colon, is a free one, which is printed. With --reverse the first part is a port there, and the rest
    /// is seen from here. With --socks only [ADDRESS:]PORT.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<String>,
    /// Listen there, and connect from here.
    #[arg(long, short = 'R', conflicts_with = "socks")]
    reverse: bool,
    /// Listen here as a SOCKS5 proxy, whose connections are made by the machine there, names looked up there included.
    #[arg(long, short = 'D')]
    socks: bool,
}

/// Runs until something ends it that no further attempt can cure; the exit code then.
///
/// # Errors
/// None that is not told already.
pub(crate) async fn port_forward(args: PortForwardArgs, setup: Setup) -> anyhow::Result<u8> {
    let PortForwardArgs { reach, ports, reverse, socks } = args;
    let (mut forwards, mut proxies) = (Vec::new(), Vec::new());
    for text in &ports {
        let read = match socks {
            true => listen_only(text).map(|place| proxies.push(place)),
            false => text.parse::<Words>().map(|words| forwards.push(words)),
        };
        if let Err(problem) = read {
            say(&problem);
            return Ok(WRONG_USAGE);
        }
    }
    let hub = match Hub::new(reach.target, setup).await {
        Ok(hub) => Arc::new(hub),
        Err(unreached) => return Ok(unreached.told(VERB)),
    };
    let way = if reverse { Way::Reverse } else { Way::Forward };
    let mut running = JoinSet::new();
    for words in forwards {
        running.spawn(forward::forward(Arc::clone(&hub), way, words, output::line));
    }
    for place in proxies {
        running.spawn(socks::socks(Arc::clone(&hub), place));
    }
    // The first that can't go on ends the command: half of what was asked for would go unnoticed.
    match running.join_next().await {
        Some(Ok(unreached)) => Ok(unreached.told(VERB)),
        _ => Ok(FAILURE),
    }
}

/// Makes a port of the server's machine reachable here, and has `tell` say so each time it opens; how it ends, which it does
/// only when no further attempt can help.
pub(crate) async fn forward_quietly(
    hub: Arc<Hub>,
    words: Words,
    tell: impl Fn(&str) + Send + Sync,
) -> Unreached {
    let told = move |line: &str| {
        tell(line);
        Ok(())
    };
    forward::forward(hub, Way::Forward, words, told).await
}
