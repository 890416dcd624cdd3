//! One connection or listener of a client, and the requests that wait at it.

use std::io;
use std::net::SocketAddr;

use codex_exec_protocol::RpcError;
use rustix::net::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::dial::tuned;
use super::failed;
use super::line::{Line, Turn};
use crate::budget::{Budget, answer_bytes};

pub(crate) use crate::budget::Claim;

/// A connection. It is closed when nobody holds it any more.
pub(crate) struct Socket {
    stream: TcpStream,
    reads: Line,
    writes: Line,
    closed: watch::Sender<bool>,
}

/// A port that is listened on.
pub(crate) struct Listener {
    listener: TcpListener,
    accepts: Line,
    closed: watch::Sender<bool>,
}

/// Something that a client may close while requests wait at it.
pub(crate) trait Closable {
    /// Ends every wait.
    fn close(&self);
}

impl Socket {
    /// A connection with room for this many reads, and writes, at once.
    pub(crate) fn new(stream: TcpStream, waiting: usize) -> Self {
        let line = || Line::new(waiting);
        Self { stream, reads: line(), writes: line(), closed: watch::Sender::new(false) }
    }

    /// Both ends, this machine's first.
    pub(crate) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.stream.local_addr()?, self.stream.peer_addr()?))
    }

    /// A place among the reads, in order.
    ///
    /// # Errors
    /// `-32600` when too many wait.
    pub(crate) fn read_turn(&self) -> Result<Turn, RpcError> {
        self.reads.enter().ok_or_else(|| too_many("reads"))
    }

    /// A place among the writes, in order.
    ///
    /// # Errors
    /// `-32600` when too many wait.
    pub(crate) fn write_turn(&self) -> Result<Turn, RpcError> {
        self.writes.enter().ok_or_else(|| too_many("writes"))
    }

    /// The next bytes, at most this many, with the memory that their answer takes; none at the end. Memory is claimed
    /// only once there is something.
    ///
    /// # Errors
    /// The system's, and `-32600` once the stream was closed.
    pub(crate) async fn read(
        &self,
        mut turn: Turn,
        most: usize,
        memory: &Budget,
    ) -> Result<(Vec<u8>, Claim), RpcError> {
        let broke = |error: io::Error| failed("the stream broke", &error);
        self.unless_closed(turn.comes()).await?;
        loop {
            self.unless_closed(self.stream.readable()).await?.map_err(broke)?;
            let claim = self.unless_closed(memory.claim(answer_bytes(most as u64))).await?;
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(most).map_err(|_| RpcError::internal("out of memory"))?;
            match self.stream.try_read_buf(&mut chunk) {
                Ok(_) => return Ok((chunk, claim)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broke(error)),
            }
        }
    }

    /// Hands all bytes to the system.
    ///
    /// # Errors
    /// The system's, and `-32600` once the stream was closed.
    pub(crate) async fn write(&self, mut turn: Turn, bytes: &[u8]) -> Result<(), RpcError> {
        let broke = |error: io::Error| failed("the stream takes no more bytes", &error);
        self.unless_closed(turn.comes()).await?;
        let mut rest = bytes;
        while !rest.is_empty() {
            self.unless_closed(self.stream.writable()).await?.map_err(broke)?;
            match self.stream.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broke(error)),
            }
        }
        Ok(())
    }

    /// Says that nothing more is sent.
    ///
    /// # Errors
    /// As for [`Self::write`]; a stream that is gone anyway is fine.
    pub(crate) async fn shutdown(&self, mut turn: Turn) -> Result<(), RpcError> {
        self.unless_closed(turn.comes()).await?;
        // The peer may have gone first.
        let _ = rustix::net::shutdown(&self.stream, Shutdown::Write);
        Ok(())
    }

    async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Result<T, RpcError> {
        unless(&self.closed, work).await
    }
}

impl Listener {
    /// A listener at which this many may wait for connections.
    pub(crate) fn new(listener: TcpListener, waiting: usize) -> Self {
        Self { listener, accepts: Line::new(waiting), closed: watch::Sender::new(false) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A place among those who wait for connections, in order.
    ///
    /// # Errors
    /// `-32600` when too many wait.
    pub(crate) fn turn(&self) -> Result<Turn, RpcError> {
        self.accepts.enter().ok_or_else(|| too_many("accepts"))
    }

    /// The next connection.
    ///
    /// # Errors
    /// The system's, and `-32600` once the listener was closed.
    pub(crate) async fn accept(&self, mut turn: Turn) -> Result<TcpStream, RpcError> {
        unless(&self.closed, turn.comes()).await?;
        let accepted = unless(&self.closed, self.listener.accept()).await?;
        accepted
            .and_then(|(stream, _)| tuned(stream))
            .map_err(|error| failed("no connection could be taken", &error))
    }
}

impl Closable for Socket {
    fn close(&self) {
        self.closed.send_replace(true);
    }
}

impl Closable for Listener {
    fn close(&self) {
        self.closed.send_replace(true);
    }
}

async fn unless<T>(closed: &watch::Sender<bool>, work: impl Future<Output = T>) -> Result<T, RpcError> {
    let mut told = closed.subscribe();
    tokio::select! {
        // The sender lives as long as this.
        _ = told.wait_for(|closed| *closed) => Err(RpcError::invalid_request("the stream was closed")),
        done = work => Ok(done),
    }
}

fn too_many(what: &str) -> RpcError {
    RpcError::invalid_request(format!("too many {what} wait at this stream; wait for an answer first"))
}
