//! One live terminal: a program on one side, a page's websocket on the other.
//!
//! The page says what it has drawn, and no more is asked of the exec-server than the page has room for: a program that floods
//! costs a window's worth of memory here, however slow the page is. What the exec-server has dropped meanwhile is told as a
//! number. Nobody who watches slows the program: it is read without an attachment.

mod credit;
mod follow;
mod hear;
mod words;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use codex_exec_server::client::Environments;
use codex_exec_server::protocol::Seq;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::access::{Grant, Role};
use crate::limits::Limits;
use crate::programs::Place;
use credit::Credit;
pub(crate) use words::LONGEST_MESSAGE;
use words::Told;

/// Messages that wait for the socket. Chosen for speed.
const OUTGOING: usize = 8;
/// Pieces of input that wait for the program; the page sends no more before they were taken. A safeguard, far from any real use.
const TYPED: usize = 64;

/// Where a page begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The last event that it has.
    pub(crate) after: Seq,
    /// Bytes of output that it has, or that are gone.
    pub(crate) offset: u64,
}

/// A program that a page looks at.
pub(crate) struct Terminal {
    pub(crate) environments: Environments,
    pub(crate) environment: String,
    pub(crate) place: Place,
    pub(crate) limits: Limits,
    /// Who looks.
    pub(crate) grant: Arc<Grant>,
}

/// What the parts of one terminal share.
struct Shared {
    terminal: Terminal,
    credit: Credit,
    /// The page wants to see the end, and not what it has missed.
    jump: AtomicBool,
    jumps: Notify,
    out: mpsc::Sender<Message>,
}

/// Why a terminal was closed, as the page knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The program is over and all was shown.
    Over,
    /// The page went.
    Left,
    /// It may not look any longer.
    Refused,
    /// There is no such program any more.
    Gone,
}

impl End {
    fn code(self) -> Option<CloseCode> {
        match self {
            Self::Over => Some(CloseCode::Normal),
            Self::Left => None,
            Self::Refused => Some(CloseCode::Library(4001)),
            Self::Gone => Some(CloseCode::Library(4004)),
        }
    }
}

impl Terminal {
    fn may_type(&self) -> bool {
        self.grant.role >= Role::Type
    }

    /// Serves the page until it goes, the program is over, or the right to look ends.
    pub(crate) async fn serve<S>(self, socket: WebSocketStream<S>, cursor: Cursor)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut sink, stream) = socket.split();
        let (out, mut outgoing) = mpsc::channel(OUTGOING);
        let (typed, queue) = mpsc::channel(TYPED);
        let grant = Arc::clone(&self.grant);
        let shared = Shared {
            credit: Credit::new(self.limits.undrawn_bytes),
            terminal: self,
            jump: AtomicBool::new(false),
            jumps: Notify::new(),
            out,
        };
        let sending = async {
            while let Some(message) = outgoing.recv().await {
                if sink.send(message).await.is_err() {
                    break;
                }
            }
        };
        let end = tokio::select! {
            biased;
            () = grant.over() => End::Refused,
            end = shared.hear(stream, typed) => end,
            () = sending => End::Left,
            end = shared.follow(cursor) => end,
            () = shared.write(queue) => End::Left,
            () = shared.beat() => End::Left,
        };
        let _ = tokio::time::timeout(shared.terminal.limits.request_time, async {
            // What is queued first: the program's last words are among it.
            while end != End::Refused
                && let Ok(message) = outgoing.try_recv()
            {
                sink.send(message).await?;
            }
            if let Some(code) = end.code() {
                sink.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
            }
            sink.close().await
        })
        .await;
    }
}

impl Shared {
    /// Tells the page something; it waits while the socket takes nothing.
    async fn tell(&self, told: &Told<'_>) {
        if let Ok(text) = serde_json::to_string(told) {
            // Fails only when the socket is gone, which is told elsewhere.
            let _ = self.out.send(Message::text(text)).await;
        }
    }

    /// Asks the page for a sign of life again and again; `hear` notices when none comes.
    async fn beat(&self) {
        loop {
            tokio::time::sleep(self.terminal.limits.ping_interval).await;
            if self.out.send(Message::Ping(Default::default())).await.is_err() {
                return;
            }
        }
    }
}
