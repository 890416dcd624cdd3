//! What ends a server, and how it says goodbye.

use std::sync::Arc;
use std::time::Duration;

use codex_children::keeper::{self, Word};
use codex_children::signals;
use codex_exec_server::server::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// What is asked of a server that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To end.
    End,
    /// To let its clients go, since another server is ready to take over.
    Suspend,
    /// To go on: the other server could not.
    GoOn,
}

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

    /// Waits until somebody asks for the end, for a server whose clients come back by themselves when another takes its place.
    pub(super) async fn end(&mut self) {
        loop {
            match self.next().await {
                Asked::End => return,
                Asked::Suspend => self.suspended(),
                Asked::GoOn => {}
            }
        }
    }

    /// The next thing that is asked for. Cancel-safe.
    pub(super) async fn next(&mut self) -> Asked {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        let keeper_speaks = async {
            match Self::word_of(self.keeper.as_mut()).await {
                Word::Gone => {
                    self.keeper = None;
                    Asked::End
                }
                Word::Suspend => Asked::Suspend,
                Word::GoOn => Asked::GoOn,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            () = hung_up => Asked::End,
            asked = keeper_speaks => asked,
        }
    }

    /// What the keeper says; for ever, where there is none or it can't be heard. Cancel-safe.
    async fn word_of(keeper: Option<&mut keeper::Server>) -> Word {
        if let Some(keeper) = keeper {
            match keeper.next().await {
                Ok(word) => return word,
                Err(error) => tracing::warn!(%error, "can't listen to the keeper any more"),
            }
        }
        std::future::pending().await
    }

    /// This server has what those before it have left, and serves.
    pub(super) fn serves(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.serves();
        }
    }

    /// This server has let its clients go.
    fn suspended(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.suspended();
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

/// Gives way to another server: lets all clients go, and says so; then the keeper ends this process, with nothing of what runs.
/// Comes back when the other server could not take over, and with what else was asked meanwhile.
pub(super) async fn give_way(
    server: &Arc<Server>,
    connections: &mut JoinSet<()>,
    signals: &mut Signals,
) -> Asked {
    server.suspend();
    let goodbye = async { while connections.join_next().await.is_some() {} };
    let asked = tokio::select! {
        _ = tokio::time::timeout(GOODBYE, goodbye) => {
            signals.suspended();
            signals.next().await
        }
        asked = signals.next() => asked,
    };
    server.go_on();
    asked
}

/// Ends every program and says goodbye on every connection; a signal meanwhile cuts it short.
pub(super) async fn end(server: &Arc<Server>, mut connections: JoinSet<()>, signals: &mut Signals) {
    signals.announce_end();
    let goodbye = async { while connections.join_next().await.is_some() {} };
    let all = async { tokio::join!(server.end(), tokio::time::timeout(GOODBYE, goodbye)) };
    tokio::select! {
        _ = all => {}
        () = signals.end() => {}
    }
}
