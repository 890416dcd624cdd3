//! What a server has of its keeper.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::above;
use super::socket::{Buffer, Packet, Received, Socket};
use super::store::{self, Bell, Entry, Store};
use super::upgrade::{FIRST_HANDED, KEPT};
use super::wire::{Key, Message, Schema, WIRE};
use crate::child_mark;
use crate::descriptor::register;
use crate::supervision;

/// A server's end of what binds it to its keeper.
#[derive(Debug)]
pub struct Server {
    store: Store,
    watched: Option<AsyncFd<OwnedFd>>,
    buffer: Buffer,
    /// Another server came before.
    follows: bool,
}

/// What a keeper says to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It is gone: the server is to end, too.
    Gone,
    /// Another server is ready to take over: let clients go, and say [`Server::suspended`]. This process is killed then.
    Suspend,
    /// The other one could not: go on.
    GoOn,
}

impl Server {
    pub(super) fn new(store: Store, follows: bool) -> Self {
        Self { store, watched: None, buffer: Buffer::default(), follows }
    }

    /// The server that this process is, where another server's keeper has started this binary as the next one
    /// (`argv[0]` tells). To be called once.
    ///
    /// # Errors
    /// When what was handed over is not there.
    #[allow(unsafe_code)]
    pub fn handed_over(arg0: Option<&OsStr>) -> io::Result<Option<Self>> {
        if !is_kept(arg0) {
            return Ok(None);
        }
        let take = |number: RawFd| {
            // SAFETY: only looked at here. A number that is not open makes the call fail.
            rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
            // SAFETY: it is open, and nothing that this process has opened: whoever started it left it to us.
            Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(number) })
        };
        let socket = take(FIRST_HANDED)?;
        // What is no socket, or not connected, has no peer.
        rustix::net::getpeername(&socket)?;
        let bell = Bell::from(take(FIRST_HANDED + 1)?);
        let store = Store::new(Socket::new(socket), bell);
        let pid = rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?;
        above::set(pid, store.clone());
        Ok(Some(Self::new(store, true)))
    }

    /// Whether a server before this one died, or gave way to this one.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// What the keeper holds for this server.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Says what this server writes and reads, and takes what the servers before it have left: nothing, for the first. Blocks for as
    /// long as that takes. To be called once, before anything is started.
    ///
    /// # Errors
    /// When the keeper is gone, can't be understood, or says nothing for some seconds.
    pub fn take_over(&mut self, schema: Schema) -> io::Result<Vec<Entry>> {
        self.store.say(&Message::Hello { wire: WIRE, schema });
        let mut entries = Vec::new();
        if !self.follows {
            return Ok(entries);
        }
        loop {
            let packet = match self.store.socket().receive(&mut self.buffer)? {
                Received::Packet(packet) => packet,
                Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Received::Nothing if self.store.socket().wait_readable()? => continue,
                Received::Nothing => return Err(io::ErrorKind::TimedOut.into()),
            };
            if take(&self.store, packet, &mut entries)? {
                self.buffer.free();
                return Ok(entries);
            }
        }
    }

    /// Says that this server has what it was handed, and serves.
    pub fn serves(&self) {
        if self.follows {
            self.store.say_now(&Message::Serving);
        }
    }

    /// Says that this server has let its clients go.
    pub fn suspended(&self) {
        self.store.say_now(&Message::Suspended);
    }

    /// Has the keeper let go of what it holds: this server is about to end, and none is to follow.
    pub fn end(&self) {
        self.store.say_now(&Message::Ending);
    }

    /// The next word of the keeper. Ends of programs that were adopted are dealt with meanwhile. Cancel-safe; in a tokio
    /// runtime only.
    ///
    /// # Errors
    /// When the event loop can't watch another descriptor.
    pub async fn next(&mut self) -> io::Result<Word> {
        let watched = match self.watched.take() {
            Some(watched) => watched,
            None => register(self.store.socket().fd().try_clone()?, Interest::READABLE)?,
        };
        let watched = self.watched.insert(watched);
        let (store, buffer) = (&self.store, &mut self.buffer);
        loop {
            let mut ready = watched.readable().await?;
            loop {
                match store.socket().receive(buffer) {
                    Ok(Received::Packet(packet)) => {
                        if let Some(word) = word(packet.bytes) {
                            return Ok(word);
                        }
                    }
                    Ok(Received::End) => return Ok(Word::Gone),
                    Ok(Received::Nothing) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            buffer.free();
            ready.clear_ready();
        }
    }
}

/// Whether this process was started as a server that is to take another one's place.
#[must_use]
pub fn is_kept(arg0: Option<&OsStr>) -> bool {
    arg0 == Some(OsStr::new(KEPT))
}

/// Takes a packet of a hand-over. Whether it was the last.
fn take(store: &Store, packet: Packet<'_>, entries: &mut Vec<Entry>) -> io::Result<bool> {
    let message = Message::parse(packet.bytes).map_err(io::Error::other)?;
    match message {
        Message::Welcome(welcome) if welcome.wire != WIRE => {
            let text = format!("the keeper speaks version {}, and this server {WIRE}", welcome.wire);
            return Err(io::Error::other(text));
        }
        Message::Welcome(welcome) => {
            store.begin_at(welcome.next_key);
            child_mark::Server::continue_as(welcome.marks, welcome.next_mark);
        }
        Message::Entry { key: Key::GUARD, .. } => {
            if let Some(pipe) = packet.descriptors.into_iter().next() {
                supervision::take_guard(pipe.into());
            }
        }
        Message::Entry { key, program, end, bytes } if !packet.is_cut => {
            let bytes = bytes.to_vec();
            entries.push(Entry { key, program, bytes, descriptors: packet.descriptors, end });
        }
        Message::Entry { .. } => {
            return Err(io::Error::other("there is no room for what an earlier server has left"));
        }
        Message::Ended { key, end } => store::ended(key, end),
        Message::All => return Ok(true),
        _ => {}
    }
    Ok(false)
}

fn word(packet: &[u8]) -> Option<Word> {
    match Message::parse(packet) {
        Ok(Message::Ended { key, end }) => {
            store::ended(key, end);
            None
        }
        Ok(Message::Suspend) => Some(Word::Suspend),
        Ok(Message::GoOn) => Some(Word::GoOn),
        // What another build may mean by it is nothing to this one.
        Ok(_) | Err(_) => None,
    }
}
