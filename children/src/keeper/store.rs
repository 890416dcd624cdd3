//! The server's way to what its keeper holds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::socket::Socket;
use super::wire::{Key, Kin, Message};
use crate::ending::Ending;
use crate::list::{self, Adopted as InList, Role};
use crate::origin::Origin;

/// What a server has its keeper hold: it outlives the server, and is handed to the next one. Cheap to clone.
///
/// The keeper looks at what it is told every few milliseconds, so a server that starts many programs seldom wakes it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Socket,
    bell: Bell,
    next_key: AtomicU64,
}

/// What a server puts into the store.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// The program whose end the keeper is to keep, if it is one.
    pub program: Option<Kin>,
    /// At most [`super::MOST_BYTES`]. The keeper does not read them.
    pub bytes: &'a [u8],
    /// At most [`super::MOST_DESCRIPTORS`]. They are duplicated.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// What a server is handed that an earlier one has put into the store. It stays there until it is forgotten or replaced.
#[derive(Debug)]
pub struct Entry {
    /// What it was put under.
    pub key: Key,
    /// The program that it is about.
    pub program: Option<Kin>,
    /// As they were put.
    pub bytes: Vec<u8>,
    /// Duplicates of those that were put, in their order.
    pub descriptors: Vec<OwnedFd>,
    pub(super) end: Option<Ending>,
}

/// A program that an earlier server has started, and that this one goes on with.
#[derive(Debug)]
pub struct Adopted {
    /// Its process, group and session.
    pub pid: Pid,
    /// Readable once [`crate::reap::try_reap`] gives its end.
    pub exit: OwnedFd,
    /// How its orphans are told from those of other programs.
    pub origin: Origin,
}

impl Store {
    pub(super) fn new(socket: Socket, bell: Bell) -> Self {
        Self(Arc::new(Shared { socket, bell, next_key: AtomicU64::new(1) }))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.0.socket
    }

    /// Keys from here on are nobody's.
    pub(super) fn begin_at(&self, key: u64) {
        self.0.next_key.fetch_max(key, Ordering::Relaxed);
    }

    /// A key that nothing was ever put under.
    #[must_use]
    pub fn new_key(&self) -> Key {
        Key(self.0.next_key.fetch_add(1, Ordering::Relaxed))
    }

    /// Puts an entry into the store, or replaces the one with this key as a whole. A system call of a few microseconds, unless
    /// the keeper is behind.
    ///
    /// # Errors
    /// When it has too many bytes or descriptors, or the keeper can't take it: then it ends with this server.
    pub fn put(&self, key: Key, entry: &Put<'_>) -> io::Result<()> {
        let message = Message::Entry { key, program: entry.program, end: None, bytes: entry.bytes };
        self.send(&message, entry.descriptors)
    }

    /// Has the keeper hold open the pipe whose end the guard waits for.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn put_guard(&self, pipe: BorrowedFd<'_>) -> io::Result<()> {
        self.put(Key::GUARD, &Put { program: None, bytes: &[], descriptors: &[pipe] })
    }

    /// Replaces an entry's bytes. Its program and descriptors stay.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn update(&self, key: Key, bytes: &[u8]) -> io::Result<()> {
        self.send(&Message::Update { key, bytes }, &[])
    }

    /// The entry is no longer needed: its descriptors are closed within a few milliseconds.
    pub fn forget(&self, key: Key) {
        self.say(&Message::Forget { key });
    }

    /// The same at once, where somebody waits for a descriptor to be closed.
    pub fn forget_now(&self, key: Key) {
        self.forget(key);
        self.0.bell.ring();
    }

    /// Says something that is worth nothing to a keeper that is gone.
    pub(super) fn say(&self, message: &Message<'_>) {
        let _ = self.send(message, &[]);
    }

    /// Says something that the keeper is to act on at once.
    pub(super) fn say_now(&self, message: &Message<'_>) {
        self.say(message);
        self.0.bell.ring();
    }

    fn send(&self, message: &Message<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        Ok(self.0.socket.send(message, descriptors, || self.0.bell.ring())?)
    }
}

impl Entry {
    /// Makes the program one of this server's: its tree can be signalled, and [`crate::reap::try_reap`] gives its end, as for one that
    /// this server has started. None where the entry is about no program.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn adopt(&mut self) -> io::Result<Option<Adopted>> {
        let Some(kin) = self.program.take() else { return Ok(None) };
        let exit = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let told = exit.try_clone()?;
        let mut children = list::children();
        let end = children.early_ends.remove(&self.key.0).or(self.end);
        if end.is_some() {
            tell(&told);
        }
        // One whose end the keeper knows has no number any more.
        let pidfd = if end.is_none() { pidfd_open(kin.pid, PidfdFlags::empty()).ok() } else { None };
        children.add(kin.pid, kin.mark, Role::Program);
        if let Some(init) = kin.init {
            children.inits.insert(init, kin.pid);
        }
        children.adopted.insert(kin.pid, InList { key: self.key.0, pidfd, end, told });
        Ok(Some(Adopted { pid: kin.pid, exit, origin: kin.origin() }))
    }
}

/// Takes the keeper's word for the end of a program that was adopted.
pub(super) fn ended(key: Key, end: Ending) {
    let mut children = list::children();
    match children.adopted.values_mut().find(|adopted| adopted.key == key.0) {
        Some(adopted) => {
            adopted.end = Some(end);
            tell(&adopted.told);
        }
        None => {
            children.early_ends.insert(key.0, end);
        }
    }
}

/// A counter that is at its end can't be told more.
fn tell(told: &OwnedFd) {
    let _ = retry_on_intr(|| rustix::io::write(told, &1_u64.to_ne_bytes()));
}

/// What wakes the keeper.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// The same bell for another process.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    fn ring(&self) {
        tell(&self.0);
    }

    /// Makes it silent again.
    pub(super) fn hear(&self) {
        let _ = retry_on_intr(|| rustix::io::read(&self.0, &mut [0_u8; 8]));
    }
}

impl From<OwnedFd> for Bell {
    fn from(counter: OwnedFd) -> Self {
        Self(counter)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
