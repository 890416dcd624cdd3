//! The process above this one, if that is a keeper.

use std::sync::OnceLock;

use rustix::process::Pid;

use super::store::Store;
use super::wire::Message;
use crate::child_mark::Mark;

/// The process above this one, if it is a keeper.
static KEEPER: OnceLock<Above> = OnceLock::new();

#[derive(Debug)]
struct Above {
    pid: Pid,
    store: Store,
}

/// Says whose server this process is, once.
pub(super) fn set(pid: Pid, store: Store) {
    let _ = KEEPER.set(Above { pid, store });
}

/// The keeper of this process, if it has one. Nobody else is its parent.
pub(crate) fn pid() -> Option<Pid> {
    KEEPER.get().map(|above| above.pid)
}

/// What the keeper of this process holds for it, if it has one.
pub(crate) fn store() -> Option<&'static Store> {
    KEEPER.get().map(|above| &above.store)
}

/// Tells the keeper to spare what has this mark when the server dies.
pub(crate) fn left_on_purpose(mark: Mark) {
    if let Some(store) = store() {
        store.say(&Message::Left { mark: mark.number() });
    }
}

/// Whether this process is a server with a keeper above it.
#[must_use]
pub fn is_above() -> bool {
    KEEPER.get().is_some()
}
