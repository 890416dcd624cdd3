//! The streams and listeners of one connection, by the ids that its client chose.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use codex_exec_protocol::RpcError;
use parking_lot::Mutex;

use super::socket::{Closable, Listener, Socket};
use crate::Limits;

/// The longest id, in bytes. Fixed by the wire.
const LONGEST_ID: usize = 64;

type Table = Arc<Mutex<HashMap<String, Slot>>>;

/// The streams and listeners of one connection. Dropping it closes them.
pub(crate) struct Streams {
    table: Table,
    /// Streams and listeners at once.
    capacity: usize,
    /// Reads, writes and accepts that may wait at one of them.
    pub(crate) waiting: usize,
}

enum Slot {
    /// The id is taken; the number tells this taking from later ones.
    Opening(Arc<()>),
    Stream(Arc<Socket>),
    Listener(Arc<Listener>),
}

/// An id that is taken for what is still to be opened; free again when this is dropped.
pub(crate) struct Reserved {
    table: Table,
    id: String,
    taken: Arc<()>,
}

impl Streams {
    /// None yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        let limits = &limits.tcp;
        Self { table: Table::default(), capacity: limits.tcp_streams, waiting: limits.tcp_stream_requests }
    }

    /// Takes an id, in order.
    ///
    /// # Errors
    /// `-32602` for one that is too long, `-32600` for one that is in use and for one too many.
    pub(crate) fn reserve(&self, id: &str) -> Result<Reserved, RpcError> {
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(RpcError::invalid_params(format!("a stream's id has 1 to {LONGEST_ID} bytes")));
        }
        let mut table = self.table.lock();
        let full = table.len() >= self.capacity;
        match table.entry(id.to_owned()) {
            Entry::Occupied(_) => Err(RpcError::invalid_request(format!("stream {id:?} exists already"))),
            Entry::Vacant(_) if full => Err(RpcError::invalid_request(format!(
                "this connection already has {} streams and listeners, the most it may have; close one",
                self.capacity
            ))),
            Entry::Vacant(free) => {
                let taken = Arc::new(());
                free.insert(Slot::Opening(Arc::clone(&taken)));
                Ok(Reserved { table: Arc::clone(&self.table), id: id.to_owned(), taken })
            }
        }
    }

    /// A stream that is open.
    ///
    /// # Errors
    /// `-32004` for any other id.
    pub(crate) fn stream(&self, id: &str) -> Result<Arc<Socket>, RpcError> {
        match self.table.lock().get(id) {
            Some(Slot::Stream(socket)) => Ok(Arc::clone(socket)),
            _ => Err(unknown("stream", id)),
        }
    }

    /// A listener.
    ///
    /// # Errors
    /// `-32004` for any other id.
    pub(crate) fn listener(&self, id: &str) -> Result<Arc<Listener>, RpcError> {
        match self.table.lock().get(id) {
            Some(Slot::Listener(listener)) => Ok(Arc::clone(listener)),
            _ => Err(unknown("listener", id)),
        }
    }

    /// Closes everything.
    pub(crate) fn close_all(&self) {
        self.table.lock().clear();
    }

    /// Closes a stream or listener, and what is still being opened under this id. An unknown one is fine.
    pub(crate) fn close(&self, id: &str) {
        match self.table.lock().remove(id) {
            Some(Slot::Stream(socket)) => socket.close(),
            Some(Slot::Listener(listener)) => listener.close(),
            Some(Slot::Opening(_)) | None => {}
        }
    }
}

impl Reserved {
    /// Puts a stream where the id was taken for it.
    ///
    /// # Errors
    /// `-32600` when it was closed meanwhile.
    pub(crate) fn settle_stream(self, socket: Socket) -> Result<Arc<Socket>, RpcError> {
        let socket = Arc::new(socket);
        self.settle(Slot::Stream(Arc::clone(&socket)))?;
        Ok(socket)
    }

    /// Puts a listener where the id was taken for it.
    ///
    /// # Errors
    /// `-32600` when it was closed meanwhile.
    pub(crate) fn settle_listener(self, listener: Listener) -> Result<Arc<Listener>, RpcError> {
        let listener = Arc::new(listener);
        self.settle(Slot::Listener(Arc::clone(&listener)))?;
        Ok(listener)
    }

    fn settle(&self, slot: Slot) -> Result<(), RpcError> {
        let mut table = self.table.lock();
        match table.get_mut(&self.id) {
            Some(held) if self.is(held) => {
                *held = slot;
                Ok(())
            }
            _ => {
                Err(RpcError::invalid_request(format!("stream {:?} was closed before it was open", self.id)))
            }
        }
    }

    fn is(&self, slot: &Slot) -> bool {
        matches!(slot, Slot::Opening(taken) if Arc::ptr_eq(taken, &self.taken))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        if table.get(&self.id).is_some_and(|held| self.is(held)) {
            table.remove(&self.id);
        }
    }
}

fn unknown(what: &str, id: &str) -> RpcError {
    RpcError::not_found(format!("unknown {what} {:?}", id.chars().take(LONGEST_ID).collect::<String>()))
}
