//! One connection: reads requests in order, writes answers and output, keeps watch over the peer.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use codex_exec_protocol::{Incoming, RequestId, RpcError, envelope, filesystem as files};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::answer::{AnswerSlot, Request};
use super::kimi::Kimi;
use super::liveness::{Due, Liveness};
use super::oversight::Oversight;
use super::receipts::Receipts;
use super::session::{Neighbourhood, Session};
use super::session_life::ConnectionId;
use super::shared::{Shared, Stopping};
use super::{announcing, routes, sending};
use crate::environment::machine::Machine;
use crate::network::Overseer;
use crate::observe::{Begun, Caller};
use crate::rpc::{Message, Outbox};
use crate::transport::{Carrier, FrameBuffer, Framing, MessageReader, Owner, PeerEvent, ReadError};

/// An idle connection keeps a buffer of at most this many bytes.
const IDLE_BUFFER: usize = 4 << 10;
/// How long a connection that ends waits for its last answers to be taken.
const LINGER: Duration = Duration::from_secs(1);
/// How long requests of a peer that has closed may wait for earlier ones. The peer hears no answer, and its session can't be
/// resumed meanwhile.
const LAST_TURN: Duration = Duration::from_millis(500);
/// How long a server that ends waits for a peer to take the goodbye and hang up.
const GOODBYE: Duration = Duration::from_millis(200);
/// How long a peer says nothing before it counts as one that has nothing under way, after the goodbye was written.
const SILENCE: Duration = Duration::from_millis(5);
/// "Going away" (RFC 6455, 7.4.1): the server ends.
const GOING_AWAY: u16 = 1001;
/// "Service restart" (the registry of RFC 6455, 11.7): another server takes this one's place.
const SERVICE_RESTART: u16 = 1012;

/// What the handlers of one connection share.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) owner: Owner,
    pub(super) server: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    lent: OnceLock<Lent>,
    initialized: OnceLock<()>,
    /// Only where it speaks that dialect; in a box, since others are many and small.
    kimi: OnceLock<Box<Kimi>>,
    oversight: Arc<Oversight>,
    receipts: Mutex<Receipts>,
    /// Only on an observed server.
    caller: Option<Box<Caller>>,
}

/// What the handshake gives a connection.
struct Lent {
    session: Arc<Session>,
    machine: Arc<Machine>,
}

/// Why a connection was ended by this side or the peer.
enum End {
    /// The peer has said everything, and had heard everything.
    Closed,
    /// The peer is gone.
    Gone,
    /// A message that protocol.md 4.3 answers by closing.
    Refused,
    /// The server is stopping and takes no more requests.
    Stopping,
}

/// Serves a connection until it ends, then detaches its session.
pub(super) async fn serve(server: Arc<Shared>, id: ConnectionId, carrier: Carrier) {
    let Carrier { mut reader, sink, framing, owner, peer } = carrier;
    let limits = &server.common.limits;
    let outbox = Outbox::new(framing, limits);
    let connection = Arc::new(Connection {
        id,
        owner,
        oversight: Arc::new(Oversight::new(Arc::clone(&outbox), limits)),
        outbox,
        lent: OnceLock::new(),
        initialized: OnceLock::new(),
        kimi: OnceLock::new(),
        receipts: Mutex::new(Receipts::new(framing, limits.process.retained_output_bytes)),
        caller: Caller::new(&server.observer, peer, id.0).map(Box::new),
        server: Arc::clone(&server),
    });
    let mut guard = Detach { connection: Arc::clone(&connection), orderly: false };
    let mut writer = std::pin::pin!(write(&connection, sink));
    tokio::select! {
        () = &mut writer => {}
        end = read(&connection, &mut reader) => {
            connection.outbox.close();
            guard.orderly = matches!(end, End::Closed);
            // The session is free for a resume at once; the last answers go on for a moment.
            drop(guard);
            match end {
                End::Closed | End::Gone | End::Refused => drop(tokio::time::timeout(LINGER, writer).await),
                End::Stopping => drop(tokio::time::timeout(GOODBYE, farewell(writer, &mut reader)).await),
            }
        }
    }
}

/// Closing with unread bytes would reset the connection, and the peer might never read the goodbye. So its messages are
/// read until it hangs up or falls silent. An idle peer delays nothing.
async fn farewell(writer: impl Future<Output = ()>, reader: &mut MessageReader) {
    let over =
        |event: &Result<PeerEvent, _>| matches!(event, Ok(PeerEvent::End | PeerEvent::Close(_)) | Err(_));
    let mut writer = std::pin::pin!(writer);
    loop {
        tokio::select! {
            () = &mut writer => break,
            event = reader.next() => if over(&event) { return writer.await },
        }
    }
    while let Ok(event) = tokio::time::timeout(SILENCE, reader.next()).await {
        if over(&event) {
            return;
        }
    }
}

/// Detaches the session when the connection ends, however that happens.
struct Detach {
    connection: Arc<Connection>,
    orderly: bool,
}

impl Drop for Detach {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.oversight.end();
        if let Some(Lent { session, machine }) = connection.lent.get() {
            machine.stop();
            let overseer: Arc<dyn Overseer> = Arc::clone(&connection.oversight) as _;
            session.processes.network().leave(&overseer);
            connection.server.sessions.detach(session, connection.id, self.orderly);
        }
    }
}

async fn read(connection: &Arc<Connection>, reader: &mut MessageReader) -> End {
    let outbox = &connection.outbox;
    let mut stopping = connection.server.stopping.subscribe();
    let mut live = match outbox.framing() {
        Framing::Stream { .. } => Liveness::of_stream(Instant::now(), &connection.server.common.limits),
        Framing::WebSocket | Framing::Lines => {
            Liveness::new(Instant::now(), &connection.server.common.limits)
        }
    };
    let mut may_read = false;
    // The peer has closed: what it asked before gets its turn if that comes soon.
    let (mut gone, mut last_turn) = (false, tokio::time::Instant::now());
    let mut written = 0;
    loop {
        if !may_read {
            may_read = outbox.has_turn();
            // A full outbox waits for the socket alone, and no program for it.
            connection.receipts().set_deaf(!may_read && outbox.is_overasked());
        }
        tokio::select! {
            () = outbox.turn(), if !may_read => {}
            () = tokio::time::sleep_until(last_turn), if gone && !may_read => return End::Gone,
            event = next(reader, may_read), if may_read || !gone => {
                let Some(event) = event else {
                    gone = true;
                    last_turn = tokio::time::Instant::now() + LAST_TURN;
                    continue;
                };
                may_read = false;
                // A pong on a virtual stream is the rendezvous's, and says nothing about the peer behind it.
                if !matches!((&event, outbox.framing()), (Ok(PeerEvent::Pong(_)), Framing::Stream { .. })) {
                    live.heard(Instant::now());
                }
                match event {
                    Ok(PeerEvent::Message(message)) => {
                        if let Err(end) = receive(connection, message) {
                            return end;
                        }
                        if connection.session().is_some() {
                            reader.trust();
                        }
                    }
                    Ok(PeerEvent::Ping(payload)) => outbox.put_control(|frame| frame.pong(payload)),
                    Ok(PeerEvent::Pong(payload)) => connection.receipts().confirmed(payload),
                    Ok(PeerEvent::Close(code)) => {
                        outbox.put(|frame| frame.close(code.unwrap_or(1000)));
                        return End::Closed;
                    }
                    Ok(PeerEvent::End) => return End::Closed,
                    Err(error) => {
                        log_end(&error);
                        return End::Gone;
                    }
                }
            }
            why = stopping.wait_for(|stopping| *stopping != Stopping::No) => {
                let restarts = why.is_ok_and(|why| *why == Stopping::Restart);
                outbox.put(|frame| frame.close(if restarts { SERVICE_RESTART } else { GOING_AWAY }));
                return End::Stopping;
            }
            () = challenged(connection.session()) => {
                live.challenge(Instant::now());
                // What went out before is no answer to it.
                written = outbox.written();
                if outbox.framing() == Framing::WebSocket {
                    outbox.put_control(|frame| frame.ping(b""));
                }
            }
            () = tokio::time::sleep_until(live.next_wake().into()), if outbox.framing() != Framing::Lines => {
                // While our own bound keeps us from reading, what the socket takes is the sign of life.
                let now_written = outbox.written();
                if outbox.framing() == Framing::WebSocket {
                    if !may_read && now_written != written {
                        live.heard(Instant::now());
                    }
                    live.taken(now_written.saturating_sub(written), Instant::now());
                }
                written = now_written;
                match live.due(Instant::now()) {
                    Due::Nothing => {}
                    Due::Ping => outbox.put_control(|frame| frame.ping(b"")),
                    Due::Gone => {
                        tracing::info!(connection = connection.id.0, "the peer shows no sign of life and counts as gone");
                        return End::Gone;
                    }
                }
            }
        }
    }
}

/// The next event; where none may be taken, none once the peer has closed. Cancel-safe.
async fn next(reader: &mut MessageReader, may_read: bool) -> Option<Result<PeerEvent<'_>, ReadError>> {
    if may_read {
        return Some(reader.next().await);
    }
    reader.closed().await;
    None
}

fn log_end(error: &ReadError) {
    tracing::debug!(%error, "connection ended");
}

/// A Unix socket or pipe can't be half-open, so only websockets are challenged by a ping. On a virtual stream nobody
/// answers one: there the peer itself has to say something.
async fn challenged(session: Option<&Arc<Session>>) {
    match session {
        Some(session) => session.challenge.notified().await,
        None => std::future::pending().await,
    }
}

fn receive(connection: &Arc<Connection>, message: &[u8]) -> Result<(), End> {
    match Incoming::parse(message) {
        Ok(Incoming::Request { id, method, params, trace }) => {
            let in_flight = connection.outbox.begin(message.len());
            let mut answer =
                AnswerSlot { outbox: Arc::clone(&connection.outbox), id, in_flight, observed: None };
            if let Some(caller) = &connection.caller {
                match caller.begin(Begun { method: &method, params, trace, bytes: message.len() }) {
                    Ok(observed) => answer.observed = Some(observed),
                    Err(error) => {
                        answer.fail(error);
                        return Ok(());
                    }
                }
            }
            routes::dispatch(connection, Request { params, answer }, &method);
            Ok(())
        }
        Ok(Incoming::Notification { method, .. })
            if method == "initialized" && connection.session().is_some() =>
        {
            let _ = connection.initialized.set(());
            Ok(())
        }
        Ok(Incoming::Notification { method, params })
            if connection.kimi().is_some_and(|kimi| kimi.notified(&method, params)) =>
        {
            Ok(())
        }
        // What was never asked can't be answered (4.3).
        Ok(Incoming::Answer { id, result }) if connection.oversight.answered(&id, Ok(result)) => Ok(()),
        Ok(Incoming::Failure { id, error }) if connection.oversight.answered(&id, Err(error.clone())) => {
            Ok(())
        }
        Ok(Incoming::Notification { .. } | Incoming::Answer { .. } | Incoming::Failure { .. }) => {
            Err(End::Refused)
        }
        Err(error) => {
            connection.outbox.put(|frame| {
                frame.message(256, |out| envelope::failure(&RequestId::UNREADABLE, &error, out));
            });
            Ok(())
        }
    }
}

/// Writes answers first, then output, fairly among the processes that have some.
async fn write(connection: &Arc<Connection>, mut sink: Box<dyn AsyncWrite + Send + Unpin>) {
    let outbox = &connection.outbox;
    let mut output = FrameBuffer::new(outbox.framing());
    loop {
        let mut idle = true;
        // What is ready by now shares the next write: a terminal's echo goes out with the keystroke's answer, and a flood
        // in large pieces. Only behind a program's end nothing more can come.
        if !connection.session().is_some_and(|session| session.processes.news().take_end()) {
            tokio::task::yield_now().await;
        }
        while let Some(mut queued) = outbox.take() {
            idle = false;
            let bytes = queued.bytes();
            let sent = match &mut queued.message {
                Message::Encoded(frame) => {
                    if bytes < IDLE_BUFFER && outbox.is_empty() {
                        encode_output_batch(connection, frame);
                    }
                    sending::send_cut(outbox, &mut sink, frame).await
                }
                Message::Poured(poured) => sending::pour(outbox, &mut sink, poured).await,
            };
            if sent.is_err() {
                return;
            }
            outbox.taken(bytes);
        }
        encode_output_batch(connection, &mut output);
        if !output.is_empty() {
            idle = false;
            if sending::send(outbox, &mut sink, output.bytes()).await.is_err() {
                return;
            }
            output.clear(announcing::BATCH * 2);
        }
        if idle {
            output.clear(IDLE_BUFFER);
            if outbox.is_finished() {
                let _ = sink.shutdown().await;
                return;
            }
            tokio::select! {
                () = outbox.filled() => {}
                () = news(connection.session().filter(|_| !outbox.is_closed())) => {}
                () = patience(&connection.receipts) => connection.receipts().give_up(),
            }
        }
    }
}

/// Waits for as long as a peer's first pong may take.
async fn patience(receipts: &Mutex<Receipts>) {
    let until = receipts.lock().patience();
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

async fn news(session: Option<&Arc<Session>>) {
    match session {
        Some(session) => session.processes.news().pushed().await,
        None => std::future::pending().await,
    }
}

/// Appends output that was not sent yet.
fn encode_output_batch(connection: &Connection, buffer: &mut FrameBuffer) {
    // Once the reader has ended, the session may be another connection's: its output is not ours to take.
    if let Some(session) = connection.session().filter(|_| !connection.outbox.is_closed()) {
        announcing::encode_batch(session, connection.kimi(), &connection.receipts, buffer);
    }
}

impl Connection {
    /// The session, once there is one.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.lent.get().map(|lent| &lent.session)
    }

    /// What is kept for Kimi Code's dialect, if it is spoken here.
    pub(super) fn kimi(&self) -> Option<&Kimi> {
        self.kimi.get().map(|kimi| &**kimi)
    }

    /// From now on Kimi Code's dialect is spoken here, if there is a session.
    pub(super) fn speak_kimi(&self) {
        if let Some(Lent { session, machine }) = self.lent.get() {
            let kimi = Kimi::new(Arc::clone(machine), Arc::clone(session), Arc::clone(&self.outbox));
            let _ = self.kimi.set(Box::new(kimi));
        }
    }

    /// Lends the machine to this connection, in a session.
    pub(super) fn lend(&self, session: Arc<Session>) {
        if let Some(caller) = &self.caller {
            caller.has(session.id());
        }
        session.processes.network().oversee(Arc::clone(&self.oversight) as _);
        let outbox = Arc::clone(&self.outbox);
        let fired =
            move |watch_id| outbox.notify::<files::MissingChanged>(&files::MissingChangedParams { watch_id });
        let others = Neighbourhood { sessions: Arc::clone(&self.server.sessions), owner: self.owner };
        let machine =
            Machine::new(&self.server.common, Arc::clone(&session.processes), fired, Box::new(others));
        let _ = self.lent.set(Lent { session, machine });
    }

    /// The machine, once the handshake is done; `family` is the word of protocol.md 5.2.
    pub(super) fn ready(&self, family: &str) -> Result<&Arc<Machine>, RpcError> {
        let lent = self.lent.get().ok_or_else(|| {
            RpcError::invalid_request(format!("client must call initialize before using {family} methods"))
        })?;
        self.initialized.get().ok_or_else(|| {
            RpcError::invalid_request(format!("client must send initialized before using {family} methods"))
        })?;
        Ok(&lent.machine)
    }

    pub(super) fn receipts(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock()
    }
}
