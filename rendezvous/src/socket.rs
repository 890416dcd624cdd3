//! One websocket's life: reads and passes frames on, writes what is queued, keeps it alive, closes it with the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::limits::Limits;
use crate::metrics::{Direction, Metrics};
use crate::outlet::{Closing, Outlet};
use crate::switch::{Passed, Port};
use crate::websocket::{Batch, ClientMessage, ReadError, Reader};

/// A socket that is attached to the switch.
pub struct Socket {
    /// What is to be written.
    pub outlet: Arc<Outlet>,
    /// Where to pass frames.
    pub port: Box<dyn Port>,
    /// Which way its frames go.
    pub direction: Direction,
    /// Largest message it may send.
    pub message_bytes: usize,
    /// Bounds of queues and times.
    pub limits: Arc<Limits>,
    /// Counters of frames and bytes.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("direction", &self.direction).finish_non_exhaustive()
    }
}

impl Socket {
    /// Serves the socket until it ends, and returns why. It is detached before the close frame is written.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> Closing {
        let (read, mut write) = tokio::io::split(stream);
        let mut batch = Batch::default();
        let life = Life::default();
        let mut reader = Reader::new(read, self.message_bytes);
        let closing = tokio::select! {
            biased;
            closing = self.outlet.closed() => closing,
            closing = write_frames(&self.outlet, &mut batch, &mut write) => closing,
            closing = self.read_frames(&mut reader, &life) => closing,
            closing = self.keep_alive(&life) => closing,
        };
        // Sockets that still wait for room here are told now; the first reason stays.
        self.outlet.close(closing);
        self.outlet.clear();
        self.metrics.closed(closing);
        let Self { port, limits, .. } = self;
        drop(port);
        // A peer that reads nothing any more, or is gone, costs no more time than this.
        let _ = timeout(limits.times.farewell, say_farewell(closing, batch, &mut reader, &mut write)).await;
        closing
    }

    async fn read_frames<S: AsyncRead + Unpin>(&self, reader: &mut Reader<S>, life: &Life) -> Closing {
        loop {
            let event = match reader.next().await {
                Ok(event) => event,
                Err(error) => return closing(&error),
            };
            life.seen.store(true, Ordering::Relaxed);
            match event {
                ClientMessage::Binary(frame) => {
                    self.metrics.passed(self.direction, frame.len());
                    match self.port.pass(frame) {
                        Passed::Sent => {}
                        Passed::Dropped(dropped) => self.metrics.dropped(dropped),
                        Passed::Full { frame, outlet, shared } => {
                            life.held.store(true, Ordering::Relaxed);
                            hold(&outlet, frame, shared, self.limits.queues.stall).await;
                            life.held.store(false, Ordering::Relaxed);
                        }
                    }
                }
                ClientMessage::Text => self.metrics.dropped(crate::switch::Dropped::Malformed),
                ClientMessage::Ping(payload) => self.outlet.pong(payload),
                ClientMessage::Pong => {}
                ClientMessage::Close => return Closing::PeerGone,
            }
        }
    }

    /// Pings, and waits for the peer to fall silent.
    async fn keep_alive(&self, life: &Life) -> Closing {
        // Counted in pauses, not by the clock: while this machine slept, the peer was not silent.
        let mut silence = Duration::ZERO;
        loop {
            sleep(self.limits.times.ping_every).await;
            // A socket that is not read, because another one is full, can't show that it is alive.
            if life.seen.swap(false, Ordering::Relaxed) || life.held.load(Ordering::Relaxed) {
                silence = Duration::ZERO;
            } else {
                silence += self.limits.times.ping_every;
            }
            if silence >= self.limits.times.silence {
                return Closing::Silent;
            }
            self.outlet.ping();
        }
    }
}

/// Signs of life, shared by the parts of one socket's task.
#[derive(Default)]
struct Life {
    seen: AtomicBool,
    held: AtomicBool,
}

fn closing(error: &ReadError) -> Closing {
    match error {
        ReadError::Ended | ReadError::Broken(_) => Closing::PeerGone,
        ReadError::TooBig(_) => Closing::TooBig,
        ReadError::Protocol(_) => Closing::Protocol,
    }
}

async fn write_frames<S>(outlet: &Outlet, batch: &mut Batch, write: &mut WriteHalf<S>) -> Closing
where
    S: AsyncRead + AsyncWrite,
{
    loop {
        if !batch.has_remaining() {
            // Behind TLS, written is not yet sent.
            if write.flush().await.is_err() {
                return Closing::PeerGone;
            }
            batch.shrink();
            batch.add(outlet.next().await);
        }
        while batch.has_room()
            && let Some(next) = outlet.try_next()
        {
            batch.add(next);
        }
        match write.write_buf(batch).await {
            Ok(0) | Err(_) => return Closing::PeerGone,
            Ok(_) => outlet.written(&batch.take_done()),
        }
    }
}

/// Waits until a full queue takes the frame. Its socket is closed when it takes nothing for `stall`, or when it
/// has used up the time for which it may hold others up; the frame is lost with its stream then.
async fn hold(outlet: &Arc<Outlet>, frame: Bytes, shared: bool, stall: Duration) {
    let began = Instant::now();
    let credit = shared.then(|| outlet.credit());
    let pushed = outlet.push(frame);
    tokio::pin!(pushed);
    loop {
        let stalled = outlet.progress() + stall;
        let deadline = credit.map_or(stalled, |credit| stalled.min(began + credit));
        tokio::select! {
            biased;
            // Closed: its owner is told by its own end.
            _ = &mut pushed => break,
            () = sleep_until(deadline) => {
                let now = Instant::now();
                let spent = credit.is_some_and(|credit| began + credit <= now);
                if spent || outlet.progress() + stall <= now {
                    outlet.close(Closing::Slow);
                    break;
                }
            }
        }
    }
    if credit.is_some() {
        outlet.held_others(began.elapsed());
    }
}

/// Finishes the frame under way, says why, and lets the peer read it: closing a connection with unread bytes
/// would reset it and lose the words.
async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(
    closing: Closing,
    mut batch: Batch,
    reader: &mut Reader<ReadHalf<S>>,
    write: &mut WriteHalf<S>,
) {
    batch.keep_begun();
    match closing {
        Closing::PeerGone => batch.add_close(None),
        _ => batch.add_close(closing.close_frame()),
    }
    if write.write_all_buf(&mut batch).await.is_err() || write.shutdown().await.is_err() {
        return;
    }
    if !matches!(closing, Closing::PeerGone | Closing::Silent) {
        reader.drain().await;
    }
}
