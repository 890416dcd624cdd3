//! What ends a server, and how it says goodbye.

use std::sync::Arc;
use std::time::Duration;

use codex_children::keeper::{self, Word};
use codex_children::signals;
use codex_exec_server::server::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// SIGTERM, SIGINT, SIGHUP unless it was ignored at the start, as under nohup, and the keeper's death.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    /// A server below a keeper ends with it.
    keeper: Option<keeper::Server>,
}

impl Signals {
    pub(super) fn new(keeper: Option<keeper::Server>) -> std::io::Result<Self> {
        let hangup = if signals::ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
            keeper,
        })
    }

    pub(super) async fn next(&mut self) {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        let keeper_died = async {
            while let Some(keeper) = &mut self.keeper {
                match keeper.next().await {
                    Ok(Word::Gone) => {
                        self.keeper = None;
                        return;
                    }
                    Ok(Word::Suspend | Word::GoOn | Word::Leave) => {}
                    Err(error) => {
                        tracing::warn!(%error, "can't listen to the keeper any more");
                        break;
                    }
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hung_up => {}
            () = keeper_died => {}
        }
    }

    /// This server has what those before it have left, and serves.
    pub(super) fn serves(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.serves();
        }
    }

    /// This server is about to end, whatever asked for it.
    fn announce_end(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.end();
        }
    }
}

/// How long connections may take to say goodbye, those in their handshake included.
const GOODBYE: Duration = Duration::from_millis(300);

/// Ends every program and says goodbye on every connection; a signal meanwhile cuts it short.
pub(super) async fn end(server: &Arc<Server>, mut connections: JoinSet<()>, signals: &mut Signals) {
    signals.announce_end();
    let goodbye = async { while connections.join_next().await.is_some() {} };
    let all = async { tokio::join!(server.end(), tokio::time::timeout(GOODBYE, goodbye)) };
    tokio::select! {
        _ = all => {}
        () = signals.next() => {}
    }
}
